"""What the status page shows while merges run, light and dark, at three widths."""

import json

# Relative luminance and contrast as WCAG 2 defines them: of a heading, of faint text, of the badge of a state.
CONTRAST = """(() => {
  const part = c => (c /= 255) <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
  const light = text => { const [r, g, b] = text.match(/[\\d.]+/g).map(Number); return 0.2126 * part(r) + 0.7152 * part(g) + 0.0722 * part(b); };
  const contrast = (words, ground) => { const [a, b] = [light(getComputedStyle(words).color), light(getComputedStyle(ground).backgroundColor)];
    return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05); };
  const shown = [...document.querySelectorAll("section")].filter(section => section.offsetParent);
  const faint = shown.map(section => [section.querySelector(".faint"), section]).find(([words]) => words);
  const badge = shown.map(section => section.querySelector(".badge")).find(Boolean);
  return [contrast(shown[0].querySelector("h2"), shown[0]), contrast(...faint), contrast(badge, badge)];
})()"""
GROUND = "getComputedStyle(document.body).backgroundColor"
DONE = "Number((document.querySelector('[role=progressbar]') || {getAttribute: () => 0}).getAttribute('aria-valuenow'))"
# Every chart that is shown was drawn for the width that it has.
DRAWN = "[...document.querySelectorAll('[data-width]')].every(e => !e.checkVisibility() || Number(e.dataset.width) === e.clientWidth)"
WIDTHS = (("laptop", 1280, 900), ("tablet", 820, 1180), ("phone", 390, 844))


def text(element):
    return f"document.getElementById('{element}').innerText"


def during_a_merge(browser, url, merge, adapter):
    """The list, and from it the page of the merge."""
    browser.look(1280, 900)
    browser.open(url)
    row = f"document.querySelector('tr[data-id=\"{merge}\"]')"
    browser.until(f"{row}?.innerText.includes('{adapter}')", "the merge with its adapter")
    browser.until(f"{row}.querySelector('.badge').textContent === 'running'", "that it runs")
    before = browser.until(DONE, "progress")
    browser.until(f"{DONE} > {before}", "progress that moves")
    browser.until(f"['w1', 'w2'].every(name => {text('workers')}.includes(name))", "both workers")
    browser.until("['read', 'written'].every(c => (document.querySelector('#plot path.' + c)?.getAttribute('d') || '').split('L').length > 3)", "a plot of the throughput")
    browser.until(f"/[0-9] (s|min)/.test([...{row}.cells].pop().textContent)", "the time that is left")
    filters(browser, merge)
    shown = browser.js("document.documentElement.outerHTML")
    browser.js(f"{row}.querySelector('a').click()")
    one = text("one")
    browser.until(f"{one}.includes('Merge {merge}')", "the page of the merge")
    browser.until("Boolean(document.querySelector('.layers path.done') && document.querySelector('.layers path.waiting, .layers path.running'))", "a layer grid in the middle of a merge")
    browser.until("['fetch', 'fuse', 'put'].every(kind => document.querySelector('.stream path.' + kind))", "a task stream with all stages")
    browser.until(f"['w1', 'w2'].every(name => document.querySelector('.stream').innerText.includes(name))", "a row for each worker")
    browser.until(f"{one}.includes('shardfuse get {merge} --coordinator http://127.0.0.1:')", "a command to copy")
    browser.until(f"['submitted', 'planned', 'work can begin on cpu'].every(text => document.querySelector('.happened').innerText.includes(text))", "what happened")
    return shown + browser.js("document.documentElement.outerHTML")


def filters(browser, merge):
    """Search and filter keep what matches and nothing else."""
    rows = "document.querySelectorAll('#open tr.merge, #ended tr.merge').length"
    set_to = "(id, value) => { const e = document.getElementById(id); e.value = value; e.dispatchEvent(new Event(id === 'search' ? 'input' : 'change')); }"
    for search, state, count in (("no such merge", "", 0), (merge, "failed", 0), (merge[:8].upper(), "running", 1), ("", "", 1)):
        browser.js(f"(({set_to})('search', {json.dumps(search)}), ({set_to})('state', {json.dumps(state)}))")
        found = browser.js(rows)
        assert found == count, f"searching {search!r} among {state or 'all'}: {found} rows, expected {count}"


def looks(browser, pictures, name):
    """Light and dark, on a laptop, a tablet and a phone: nothing is wider than the window, and everything can be read."""
    grounds = {}
    for scheme in ("light", "dark"):
        for device, width, height in WIDTHS:
            browser.look(width, height, scheme)
            browser.until(DRAWN, "charts for this width")
            wide = browser.js("document.documentElement.scrollWidth")
            assert wide <= width, f"{name}: on a {device} the page is {wide} pixels wide, the window {width}"
            browser.picture(pictures / f"{name}-{device}-{scheme}.png")
        grounds[scheme] = browser.js(GROUND)
        heading, faint, badge = browser.js(CONTRAST)
        assert heading >= 7 and min(faint, badge) >= 4.5, f"{name}, {scheme}: contrasts of text {heading:.1f}, faint text {faint:.1f}, badge {badge:.1f}"
    assert grounds["light"] != grounds["dark"], f"dark looks as light does: {grounds}"
    browser.look(1280, 900)


# Draws a grid of 80 layers and 100 experts into a section of the page, with its own code.
LARGE = """import('/page/grid.js').then(({ showGrid }) => {
  const numbers = count => [...Array(count).keys()].map(String), cells = count => numbers(count).map(n => ['done', 'running', 'waiting'][n % 3]);
  const into = document.createElement('section');
  into.id = 'large';
  const kinds = document.createElement('div'), experts = document.createElement('div');
  into.append(kinds, experts);
  document.querySelector('main').append(into);
  showGrid(kinds, { columns: numbers(80), rows: numbers(12).map(n => ({ name: 'mlp.experts.*.projection_' + n + '.weight', cells: cells(80) })), more: 0 }, 'layers');
  showGrid(experts, { columns: numbers(100), rows: numbers(80).map(n => ({ name: 'layer ' + n, cells: cells(100) })), more: 0 }, 'experts');
  return true;
})"""
CHARTS = "[...document.querySelectorAll('#large .chart')].map(c => [c.scrollWidth, c.clientWidth])"
LABEL = "document.querySelector('#large .labels').getBoundingClientRect().left"


def large_layer_sets(browser, url):
    """80 layers and 100 experts fit on a laptop; on a phone they scroll, and their labels stay."""
    for width, fits in ((1280, True), (390, False)):
        browser.look(width, 900)
        browser.open(url + "#")
        browser.js("location.reload()")
        browser.until("document.readyState === 'complete' && Boolean(document.querySelector('#workers tr'))", "the list")
        assert browser.js(LARGE)
        for whole, shown in browser.js(CHARTS):
            assert (whole <= shown) == fits, f"{width} pixels: a grid of {whole} pixels in {shown}"
        before = browser.js(LABEL)
        browser.js("document.querySelectorAll('#large .chart').forEach(chart => chart.scrollLeft = 300)")
        assert browser.js(LABEL) == before, "the labels scroll away"
        assert browser.js("document.documentElement.scrollWidth") <= width
    browser.look(1280, 900)


# A history of 1,000 merges, as the coordinator gives it.
MANY = """import('/page/list.js').then(({ showEnded }) => {
  const merge = n => ({ id: n.toString(16).padStart(16, '0'), state: n % 7 ? 'done' : 'failed', output: 's3://merged/model-' + n, base: 's3://models/base',
    adapters: ['adapter-' + n], adapters_total: 1, began: 1e12, ended: 1e12 + n, bytes_done: n, bytes_total: n, failure: n % 7 ? null : { message: 'm', kind: 'io' } });
  const began = performance.now();
  showEnded([...Array(1000).keys()].map(merge));
  return performance.now() - began;
})"""


def many_merges(browser, url):
    """The page stays usable with 1,000 merges: a bounded number is drawn, and a search finds the others."""
    browser.open(url + "#")
    browser.until("Boolean(document.querySelector('#workers tr'))", "the list")
    took = browser.js(MANY)
    rows = "document.querySelectorAll('#ended tr.merge').length"
    assert browser.js(rows) == 200, browser.js(rows)
    set_to = "value => { const e = document.getElementById('search'); e.value = value; e.dispatchEvent(new Event('input')); }"
    browser.js(f"({set_to})('adapter-987')")
    assert browser.js(rows) == 1 and "model-987" in browser.js(text("ended"))
    browser.js(f"({set_to})('')")
    print(f"the status page: 1,000 merges are drawn in {took:.0f} ms")


def after_the_merge(browser, url, merge):
    browser.open(url + "#" + merge)
    browser.until("document.querySelector('#one .badge')?.textContent === 'done'", "the end")
    assert browser.js(DONE) == 100
    browser.until(f"{text('one')}.includes('shardfuse verify ')", "the command that checks it")
    browser.open(url + "#")
    row = f"document.querySelector('#ended tr[data-id=\"{merge}\"]')"
    browser.until(f"{row}?.innerText.includes('MB/s')", "the merge in the history, with its rate")
    strange = [request for request in browser.requests if not request.startswith((url, "about:"))]
    assert not strange, f"the page asks others: {strange}"
    assert len(browser.requests) > 5, browser.requests
    assert not browser.complaints, browser.complaints


def without_a_coordinator(browser):
    browser.until("!document.getElementById('gone').hidden", "that the coordinator is gone")


def plan(browser, file, pictures, hostile):
    """The plan as a page: a file of its own that asks nobody, runs nothing, and shows names as what they are."""
    browser.open("about:blank")  # the status page, which was open, asks for its state until it is gone
    before = len(browser.requests)
    browser.open(file.as_uri())
    body = browser.js("document.body.innerText")
    for word in ("Adapters, in the order", "What happens to each tensor", "Bytes and expected time by stage", hostile):
        assert word in body, f"the page of the plan does not show {word!r}"
    assert browser.js("document.querySelectorAll('script, img, link, iframe').length") == 0
    cells = browser.js("document.querySelectorAll('.grid td[class]').length")
    assert cells > 50, cells
    for scheme in ("light", "dark"):
        for device, width, height in WIDTHS:
            browser.look(width, height, scheme)
            wide = browser.js("document.documentElement.scrollWidth")
            assert wide <= width, f"plan: on a {device} the page is {wide} pixels wide, the window {width}"
            browser.picture(pictures / f"plan-{device}-{scheme}.png")
    strange = [request for request in browser.requests[before:] if request != file.as_uri()]
    assert not strange, f"the page of the plan asks for {strange}"
    del browser.requests[before:]
    assert not browser.complaints, browser.complaints
    browser.look(1280, 900)
