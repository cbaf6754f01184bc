"""What the status page shows while a merge runs, light and dark, wide and narrow."""

# Relative luminance and contrast as WCAG 2 defines them.
CONTRAST = """(() => {
  const part = c => (c /= 255) <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
  const light = text => { const [r, g, b] = text.match(/[\\d.]+/g).map(Number); return 0.2126 * part(r) + 0.7152 * part(g) + 0.0722 * part(b); };
  const contrast = (words, ground) => { const [a, b] = [light(getComputedStyle(words).color), light(getComputedStyle(ground).backgroundColor)];
    return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05); };
  const [section, badge] = [document.querySelector("section"), document.querySelector(".merge .badge")];
  return [contrast(section.querySelector("h2"), section), contrast(document.querySelector("section .faint"), section), contrast(badge, badge)];
})()"""
GROUND = "getComputedStyle(document.body).backgroundColor"
SHOWN = "document.getElementById('merges').innerText"
DONE = "Number((document.querySelector('.merge [role=progressbar]') || {getAttribute: () => 0}).getAttribute('aria-valuenow'))"


def during_a_merge(browser, url, merge, layers):
    browser.look(1200, 1050)
    browser.open(url)
    browser.until(f"{SHOWN}.includes('{merge}')", "the merge")
    browser.until("document.querySelector('.merge .badge').textContent === 'running'", "that it runs")
    before = browser.until(DONE, "progress")
    browser.until(f"{DONE} > {before}", "progress that moves")
    browser.until("document.getElementById('workers').innerText.includes('w1') && document.getElementById('workers').innerText.includes('w2')", "both workers")
    browser.until("['read', 'written'].every(c => (document.querySelector('#plot path.' + c)?.getAttribute('d') || '').split('L').length > 3)", "a plot of the throughput")
    browser.until("document.querySelector('.merge').innerText.includes(' left')", "the time that is left")
    browser.until("Boolean(document.querySelector('.grid i.done') && document.querySelector('.grid i.waiting, .grid i.running'))", "a layer grid in the middle of a merge")
    columns = browser.js("getComputedStyle(document.querySelector('.grid')).gridTemplateColumns.split(' ').length")
    assert columns > layers, f"{columns} columns for {layers} layers"

    return browser.js("document.documentElement.outerHTML")


def looks(browser, pictures):
    """In the middle of a merge: light and dark, wide and as narrow as a phone."""
    browser.until(f"{DONE} >= 20", "some progress")
    seen = {}
    for scheme in ("light", "dark"):
        browser.look(1200, 1050, scheme)
        seen[scheme] = browser.js(GROUND)
        heading, faint, badge = browser.js(CONTRAST)
        assert heading >= 7 and min(faint, badge) >= 4.5, f"{scheme}: contrasts of text {heading:.1f}, faint text {faint:.1f}, badge {badge:.1f}"
        browser.picture(pictures / f"{scheme}.png")
    assert seen["light"] != seen["dark"], f"dark looks as light does: {seen}"
    for scheme in ("light", "dark"):
        browser.look(390, 844, scheme)
        width = browser.js("document.documentElement.scrollWidth")
        assert width <= 390, f"on a phone the page is {width} pixels wide"
        browser.until("document.querySelector('#plot text').getBoundingClientRect().height >= 10", "words at the plot that can be read on a phone")
        browser.picture(pictures / f"phone-{scheme}.png")
    browser.look(1200, 1050)


def after_the_merge(browser, url, merge):
    browser.until(f"{SHOWN}.includes('{merge}') && document.querySelector('.merge .badge').textContent === 'done'", "the end")
    assert browser.js(DONE) == 100
    strange = [request for request in browser.requests if not request.startswith((url, "about:"))]
    assert not strange, f"the page asks others: {strange}"
    assert len(browser.requests) > 5, browser.requests
    assert not browser.complaints, browser.complaints


def without_a_coordinator(browser):
    browser.until("getComputedStyle(document.getElementById('gone')).display !== 'none'", "that the coordinator is gone")
