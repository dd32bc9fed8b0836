#!/usr/bin/env python3
"""The page of epmoe serve in a headless Chromium (PyPI: playwright; Debian: chromium), by keyboard alone, in light,
dark and on a phone; pictures are left in FOLDER, to be looked at.

    page.py EPMOE FOLDER CHAT-MODEL
"""
import sys

from playwright.sync_api import sync_playwright

from serve import Server

SCREENS = {
    "light": dict(viewport={"width": 1200, "height": 800}),
    "dark": dict(viewport={"width": 1200, "height": 800}, color_scheme="dark"),
    "phone": dict(viewport={"width": 390, "height": 844}, device_scale_factor=2, is_mobile=True),
}


def wait(page, condition):
    for _ in range(600):  # the page's own policy forbids scripts that wait inside it
        if page.evaluate(condition):
            return
        page.wait_for_timeout(50)
    raise AssertionError(f"never: {condition}")


def visit(browser, server, picture, screen, words):
    complaints = []
    page = browser.new_context(**screen).new_page()
    page.on("console", lambda m: complaints.append(m.text))
    page.on("pageerror", lambda e: complaints.append(str(e)))
    page.goto(f"http://{server.host}:{server.port}/")
    wait(page, "document.getElementById('title').textContent !== 'epmoe'")
    page.keyboard.type(words)  # the field has the focus
    page.keyboard.press("Enter")
    wait(page, f"document.getElementById('talk').innerText.length > {len(words) + 20}")
    page.keyboard.press("Escape")  # stops a text that is not at its end
    wait(page, "!document.getElementById('send').disabled")
    wait(page, "[...document.querySelectorAll('.rank span')].some(s => s.textContent === '100 %')")
    page.screenshot(path=picture, full_page="phone" in picture)
    assert words in page.inner_text("#talk") and complaints == [], complaints
    wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert wide <= 0, f"{picture}: {wide} pixels too wide"
    page.context.close()


if __name__ == "__main__":
    epmoe, folder, chat_model = sys.argv[1:]
    with sync_playwright() as p:
        browser = p.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        text, chat = Server(epmoe, "-t", "1"), Server(epmoe, "-t", "1", "-n", "60", model=chat_model)
        for name, screen in SCREENS.items():
            visit(browser, text, f"{folder}/text-{name}.png", screen, "It is a truth universally acknowledged")
            visit(browser, chat, f"{folder}/chat-{name}.png", screen, "Hello there")
        text.end()
        chat.end()
