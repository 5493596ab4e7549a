"""A page in Chromium, as the tests open and photograph it."""

import shutil

from matplotlib import image

CHROMIUM = next((found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None)


def opened_page(browser, address, offline=True):
    context = browser.new_context(offline=offline, viewport={"width": 1000, "height": 700})
    page = context.new_page()
    page.complaints = []
    page.on("console", lambda message: page.complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: page.complaints.append(str(error)))
    page.goto(address)
    page.locator("body[data-painted]").wait_for(state="attached")  # a function that polls needs eval, which the page forbids
    return page


def shot(page, path):
    page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
    if page.locator("body[data-drawn]").count():
        page.locator("body[data-drawn='at rest']").wait_for(state="attached")
    else:  # a notebook: its widgets rest half a second after they moved, those out of sight later
        page.wait_for_timeout(1000)
    page.screenshot(path=path)
    return image.imread(path)[..., :3]
