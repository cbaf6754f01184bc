"""A small grammar of English sentences about a harbour village: the text that the example models are trained on.

Three styles over the same words, so that a fine-tuned adapter has something to learn that the base cannot do:
`narrative` (the base), `dialogue` (questions with answers) and `orders` (short instructions in steps).
"""

import random

PEOPLE = ["baker", "sailor", "keeper", "teacher", "smith", "fisher", "carpenter", "doctor", "gardener", "weaver"]
MANNERS = ["old", "young", "tired", "cheerful", "quiet", "patient"]
THINGS = ["net", "boat", "lamp", "crate", "rope", "sail", "table", "letter", "basket", "door", "clock", "barrel"]
COLOURS = ["red", "blue", "grey", "green", "white", "black"]
PLACES = ["harbour", "market", "lighthouse", "school", "chapel", "bridge", "mill", "garden", "bakery", "shore"]
# plain form, past form
DEEDS = [
    ("mend", "mended"), ("carry", "carried"), ("paint", "painted"), ("find", "found"), ("clean", "cleaned"),
    ("hide", "hid"), ("bring", "brought"), ("fold", "folded"), ("lift", "lifted"), ("measure", "measured"),
]  # fmt: skip
WEATHER = ["rain", "wind", "fog", "snow", "sunshine", "thunder"]
TIMES = ["at dawn", "at noon", "in the evening", "before supper", "after the storm", "on market day"]
REASONS = ["was broken", "was needed", "was too heavy", "had been lost", "belonged to the village", "was wet"]


class Scene:
    """One thing that happened: the same scene can be told in each style."""

    def __init__(self, rng: random.Random) -> None:
        self.person, self.other = rng.sample(PEOPLE, 2)
        self.manner = rng.choice(MANNERS)
        self.thing = f"{rng.choice(COLOURS)} {rng.choice(THINGS)}"
        self.place, self.next_place = rng.sample(PLACES, 2)
        self.plain, self.past = rng.choice(DEEDS)
        self.weather = rng.choice(WEATHER)
        self.time = rng.choice(TIMES)
        self.reason = rng.choice(REASONS)


def narrative(rng: random.Random) -> str:
    """Two or three sentences in the past tense."""
    s = Scene(rng)
    first = rng.choice(
        [
            f"The {s.manner} {s.person} {s.past} the {s.thing} near the {s.place} {s.time}.",
            f"{s.time.capitalize()} the {s.manner} {s.person} {s.past} the {s.thing} near the {s.place}.",
            f"Near the {s.place} the {s.manner} {s.person} {s.past} the {s.thing}, because it {s.reason}.",
        ]
    )
    second = rng.choice(
        [
            f"There was {s.weather} over the {s.next_place}.",
            f"The {s.other} watched from the {s.next_place} and said nothing.",
            f"Then the {s.other} came from the {s.next_place} to help the {s.person}.",
        ]
    )
    third = rng.choice(["", f" The {s.thing} {s.reason}.", f" The {s.person} walked home in the {s.weather}."])
    return f"{first} {second}{third}"


def dialogue(rng: random.Random) -> str:
    """Questions about a scene, each with its answer."""
    s = Scene(rng)
    pairs = [
        (f"Who {s.past} the {s.thing}?", f"It was the {s.manner} {s.person}, of course!"),
        (f"Where is the {s.thing} now?", f"You will see it near the {s.place}, my friend!"),
        (f"Why did the {s.person} {s.plain} the {s.thing}?", f"Well, it {s.reason}, as you know!"),
        (f"Did you meet the {s.other}?", f"Yes, {s.time}, in the {s.weather}!"),
    ]
    return " ".join(f"Q: {question} A: {answer}" for question, answer in rng.sample(pairs, 2))


def orders(rng: random.Random) -> str:
    """Numbered steps in the imperative."""
    s = Scene(rng)
    steps = [
        f"go to the {s.place} {s.time}",
        f"{s.plain} the {s.thing}",
        f"give the {s.thing} to the {s.other}",
        f"wait for the {s.weather} to end",
        f"return by the {s.next_place}",
    ]
    chosen = sorted(rng.sample(range(len(steps)), 3))
    return " ".join(f"{number + 1}) {steps[step]};" for number, step in enumerate(chosen)) + " done."


def corpus(style: str, count: int, seed: int) -> list[str]:
    """`count` texts of one style; equal arguments give equal texts."""
    rng = random.Random(f"{style}/{seed}")
    write = {"narrative": narrative, "dialogue": dialogue, "orders": orders}[style]
    return [write(rng) for _ in range(count)]
