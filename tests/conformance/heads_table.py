#!/usr/bin/env python3
"""Writes the table of heads: the class of each model type for a task, and the parameters of each class outside its base model.

    tests/conformance/setup.sh                                      # prints the Python to use
    PYTHON tests/conformance/heads_table.py merge/src/base/heads/table.json

An adapter for another task than the base's carries a head that the base lacks (`score`, `classifier`, `qa_outputs`). The
table has, for PEFT's task types, the class of each model type by transformers' auto mappings. For each class that can be made it has
the `names` of its head: those outside its base model. `labels` is the one whose rows are the labels.
"""

import made
import transformers
from transformers.models.auto import modeling_auto

# Tasks by PEFT's names (and masked models, whose heads a new one takes the place of), and transformers' mappings.
TASKS = {
    "CAUSAL_LM": "MODEL_FOR_CAUSAL_LM_MAPPING_NAMES",
    "SEQ_2_SEQ_LM": "MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES",
    "SEQ_CLS": "MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES",
    "MASKED_LM": "MODEL_FOR_MASKED_LM_MAPPING_NAMES",
    "TOKEN_CLS": "MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING_NAMES",
    "QUESTION_ANS": "MODEL_FOR_QUESTION_ANSWERING_MAPPING_NAMES",
}
NEW_HEADS = ("SEQ_CLS", "TOKEN_CLS", "QUESTION_ANS")
# Numbers of labels that no other dimension has.
LABELS = (13, 17)


def mapping(task: str) -> dict[str, str]:
    found = getattr(modeling_auto, TASKS[task])
    return {model_type: value if isinstance(value, str) else value[0] for model_type, value in sorted(found.items())}


def names_of_base(config_class) -> set[str]:
    """The parameters of the model without a head, for a class that has them without a prefix, as T5 does."""
    name = modeling_auto.MODEL_MAPPING_NAMES[config_class.model_type]
    base = getattr(transformers, name if isinstance(name, str) else name[0])
    return set(made.make(base, config_class).state_dict())


def head(cls, config_class) -> dict:
    shapes = []
    for labels in LABELS:
        model = made.make(cls, config_class, lambda config_class, labels=labels: config_class(num_labels=labels))
        state, prefix = model.state_dict(), f"{model.base_model_prefix}."
        own = {name for name in state if not name.startswith(prefix)}
        if len(own) == len(state):
            own -= names_of_base(config_class)
            if len(own) * 2 > len(state):
                return {"names": []}  # the base model has other names: what the head is cannot be told
        shapes.append({name: tuple(x.shape) for name, x in state.items() if name in own})
    first, second = shapes
    rows = [name for name, shape in first.items() if len(shape) > 1 and (shape[0], second[name][0]) == LABELS]
    return {"names": sorted(first)} | ({"labels": rows[0]} if len(rows) == 1 else {})


def table() -> dict:
    tasks = {task: mapping(task) for task in TASKS}
    wanted = {name for of_type in tasks.values() for name in of_type.values()}
    heads, failed = made.Lists(), made.Failures()
    for name, found in made.each(failed, head, wanted):
        heads.add(name, found if found["names"] else None)
    print(f"heads: {heads}")
    failed.report()
    return {"tasks": {task: tasks[task] for task in NEW_HEADS}} | heads.table()


if __name__ == "__main__":
    made.write(__doc__, table)
