"""The form: store from a URL and from a store, read, preview and delete a pattern after a second look."""

import re

from playwright.sync_api import expect

from browser_tools import Blobs, tab
from daemon import Daemon


def fill(page, kind, **fields):
    page.locator("#kind").select_option(kind)
    for field, text in fields.items():
        page.locator(f"#{field}").fill(text)
    page.locator("#send").click()


def found(page, label):
    return page.locator("#found dt", has_text=label).locator("xpath=following-sibling::dd[1]")


def a_pattern_is_deleted_after_a_second_look_alone(browser, daemon):
    for n in range(3):
        daemon.post({"key": "SET", "value": {"data": {"key": f"second-look:{n}", "value": "v"}}})
    with tab(browser, daemon.url) as page:
        for is_meant in (False, True):
            fill(page, "PATTERN", key="second-look:*")
            expect(page.locator("#second-look-text")).to_contain_text("3 keys match second-look:*")
            expect(page.locator("#second-look-no")).to_be_focused()
            expect(page.locator("#answer")).to_contain_text("second-look:1")
            if not is_meant:
                # Another pattern is another look.
                page.locator("#key").fill("second-look:1*")
                expect(page.locator("#second-look")).to_be_hidden()
                fill(page, "GET", key="second-look:1")
                expect(found(page, "state")).to_have_text("is there")
        page.locator("#second-look-yes").click()
        expect(page.locator("#answer")).to_contain_text('"deleted": 3')
        fill(page, "GET", key="second-look:1")
        expect(found(page, "state")).to_have_text("is not there")


def objects_are_stored_from_a_url_and_from_a_store_and_read(browser):
    with Blobs() as blobs:
        store = {"STORES_FILES_KIND": "http", "STORES_FILES_ENDPOINT": blobs.url}
        blobs.answers |= {"/a/b.txt": (200, b"from a URL"), "/bucket/o.bin": (200, b"\xff\x00")}
        with Daemon(**blobs.settings(), **store) as daemon, tab(browser, daemon.url, quiet=False) as page:
            expect(page.locator("#state")).to_have_text("✓ ready")
            fill(page, "URL", url=f"{blobs.url}/a/b.txt", ttl="3600", version="9007199254740993")
            expect(page.locator("#answer")).to_contain_text('"key": "a/b.txt"')
            fill(page, "GET", key="a/b.txt")
            expect(found(page, "value")).to_have_text("from a URL")
            expect(found(page, "size")).to_have_text("10 B")
            expect(found(page, "version")).to_have_text("9007199254740993")
            expect(found(page, "expires")).to_have_text(re.compile(r"^in (1 h|59 min( \d+ s)?)$"))
            fill(page, "STORE", object="bucket/o.bin", key="o")
            expect(page.locator("#answer")).to_contain_text('"source": "blob"')
            fill(page, "GET", key="o")
            expect(found(page, "value, in base64")).to_have_text("/wA=")
            blobs.answers["/gone"] = (503, b"")
            fill(page, "URL", url=f"{blobs.url}/gone", key="lost", ttl="", version="")
            expect(page.locator("#answer-state")).to_have_text("answered 503: unavailable")
            fill(page, "GET", key="lost")
            expect(found(page, "last failure")).to_contain_text("blob-unavailable")


ON_ONE_DAEMON = [a_pattern_is_deleted_after_a_second_look_alone]
ALONE = [objects_are_stored_from_a_url_and_from_a_store_and_read]
