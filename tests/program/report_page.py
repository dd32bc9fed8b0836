#!/usr/bin/env python3
"""A page of epmoe report in a headless Chromium (PyPI: playwright; Debian: chromium), in light, dark, on a phone and as
PDF; pictures are left in FOLDER, to be looked at.

    report_page.py PAGE FOLDER
"""
import os
import sys

from playwright.sync_api import sync_playwright

SCREENS = {
    "light": dict(viewport={"width": 1200, "height": 800}),
    "dark": dict(viewport={"width": 1200, "height": 800}, color_scheme="dark"),
    "phone": dict(viewport={"width": 390, "height": 844}, device_scale_factor=2, is_mobile=True),
}


def visit(browser, url, picture, screen):
    asked, complaints = [], []
    page = browser.new_context(**screen).new_page()
    page.on("request", lambda r: asked.append(r.url))
    page.on("console", lambda m: complaints.append(m.text))
    page.goto(url)
    wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert wide <= 0, f"{picture}: {wide} pixels too wide"
    small = page.evaluate("[...document.querySelectorAll('figure svg')].filter(s => s.getBoundingClientRect().height < 80).length")
    figures = page.locator("figure svg").count()
    assert figures > 0 and small == 0, f"{picture}: {small} of {figures} figures are too small"
    paper, ink = page.evaluate("(b => [b.backgroundColor, b.color])(getComputedStyle(document.body))")
    axis = page.evaluate("getComputedStyle(document.querySelector('figure svg [stroke=black]')).stroke")
    assert axis == ink != paper, f"{picture}: axes {axis}, text {ink}, paper {paper}"
    page.screenshot(path=picture, full_page=True)
    assert asked == [url] and complaints == [], (asked, complaints)
    return page


if __name__ == "__main__":
    url, folder = "file://" + os.path.realpath(sys.argv[1]), sys.argv[2]
    with sync_playwright() as p:
        browser = p.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        for name, screen in SCREENS.items():
            page = visit(browser, url, f"{folder}/report-{name}.png", screen)
        page = visit(browser, url, f"{folder}/report-light.png", SCREENS["light"])
        page.pdf(path=f"{folder}/report.pdf", format="A4")
        browser.close()
    print(f"report: pictures in {folder}")
