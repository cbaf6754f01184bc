// Asks the coordinator every second, and shows all merges, or the one that the address names.

import { byId, make, seconds } from "./make.js";
import * as list from "./list.js";
import * as fleet from "./fleet.js";
import * as merge from "./merge.js";

let about = null, endedSeen = null, timer = 0;

class Missing extends Error {}

async function get(path) {
  const answer = await fetch(path, { cache: "no-store" });
  if (answer.status === 404) throw new Missing(path);
  if (!answer.ok) throw new Error(answer.status);
  return answer.json();
}

const chosen = () => /^#[0-9a-f]{16}$/.test(location.hash) ? location.hash.slice(1) : null;

async function renew() {
  about ||= await get("api/about");
  const one = chosen();
  byId("all").hidden = Boolean(one);
  byId("one").hidden = !one;
  if (one) {
    byId("about").textContent = "coordinator " + about.version;
    document.title = "merge " + one + " · shardfuse";
    await merge.show(byId("one"), one, get, about);
    return;
  }
  merge.leave();
  document.title = "shardfuse";
  const status = await get("api/status");
  byId("about").textContent = "coordinator " + status.version + ", up " + seconds(status.uptime_seconds);
  fleet.showErrors(status);
  fleet.showWorkers(status.workers, status.workers_total);
  list.showOpen(status);
  fleet.showPlot(status.throughput);
  fleet.showHappenings(status);
  const seen = status.ended.count + " " + status.ended.last;
  if (seen !== endedSeen) {
    list.showEnded(await get("api/ended"));
    endedSeen = seen;
  }
}

async function refresh() {
  clearTimeout(timer);
  try {
    await renew();
    byId("gone").hidden = true;
  } catch (error) {
    if (error instanceof Missing && chosen()) {
      merge.leave();
      byId("one").replaceChildren(make("p", {}, make("a", { href: "#" }, "← all merges")), make("section", {}, "This coordinator knows no merge " + chosen() + "."));
    } else {
      // What it is may be another coordinator by then.
      about = endedSeen = null;
      byId("gone").hidden = false;
    }
  }
  timer = setTimeout(refresh, document.hidden ? 10000 : 1000);
}

list.begin();
addEventListener("hashchange", () => { scrollTo(0, 0); refresh(); });
// Charts are as wide as the window.
addEventListener("resize", () => { clearTimeout(timer); timer = setTimeout(refresh, 100); });
document.addEventListener("visibilitychange", () => { if (!document.hidden) refresh(); });
refresh();
