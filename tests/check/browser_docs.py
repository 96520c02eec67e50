"""The documentation page: contents, search, requests that can be tried, and sentences."""

import re

from playwright.sync_api import expect

from browser_tools import assert_sound, tab

# What a generator says of a schema, and nobody else.
GENERATED = ("minimum characters", "maximum characters", "minimum items", "maximum items", "any of:", "all of:", "Needs nothing")


def the_documentation_shows_every_route_and_leads_to_its_shapes(browser, daemon):
    document = daemon.get("/openapi.json")
    routes = sum(len(path.keys() - {"parameters"}) for path in document["paths"].values())
    with tab(browser, daemon.url + "/docs") as page:
        expect(page.locator("#routes h2")).to_have_count(routes)
        for path in document["paths"]:
            expect(page.locator("#routes h2 code", has_text=path).first).to_be_visible()
        parts = routes + len(document["components"]["schemas"]) + 2
        expect(page.locator("#contents a")).to_have_count(parts)
        # Folded where there is no room beside the text.
        link = page.locator("#contents a", has_text="POST /events")
        if not link.is_visible():
            page.locator("#contents-fold > summary").click()
        link.click()
        expect(page.locator("#route-postEvents")).to_be_in_viewport()
        missing = page.evaluate("[...document.links].map(a => a.hash.slice(1)).filter(id => id && !document.getElementById(id))")
        assert not missing, missing


def schemas_are_told_in_sentences(browser, daemon):
    with tab(browser, daemon.url + "/docs") as page:
        expect(page.locator("#shapes section").first).to_be_visible()
        text = page.locator("main").evaluate("main => main.textContent")
        for phrase in GENERATED:
            assert phrase not in text, phrase
        assert "undefined" not in text and "[object" not in text
        for part, sentence in (("shape-Key", "A text of 1 to 1,024 characters"), ("shape-Entry", "InlineEntry, Base64Entry, BlobEntry, StoreEntry or BlobUrl."), ("shape-Keys", "A list of 1 to 1,000 elements")):
            expect(page.locator(f"[data-part={part}]")).to_contain_text(sentence)
        expect(page.locator("[data-part=shape-InlineEntry] dt").first).to_contain_text("required")


def the_search_finds_hides_and_opens(browser, daemon):
    with tab(browser, daemon.url + "/docs") as page:
        expect(page.locator("#routes h2").first).to_be_visible()
        page.keyboard.press("/")
        expect(page.locator("#search")).to_be_focused()
        page.keyboard.type("dead letter")
        expect(page.locator("#search-state")).to_have_text(re.compile(r"^\d+ of \d+ parts have it; Enter goes to the first$"))
        expect(page.locator("[data-part=route-deadLetters]")).to_be_visible()
        expect(page.locator("[data-part=route-live]")).to_be_hidden()
        expect(page.locator("#contents a", has_text="GET /live")).to_be_hidden()
        page.keyboard.press("Enter")
        assert page.evaluate("document.activeElement.closest('[data-part]') !== null")
        page.locator("#search").fill("no such word anywhere")
        expect(page.locator("#search-state")).to_contain_text("0 of")
        page.locator("#search").fill("")
        expect(page.locator("[data-part=route-live]")).to_be_visible()


def a_request_is_tried(browser, daemon):
    with tab(browser, daemon.url + "/docs") as page:
        route = page.locator("[data-part=route-postEvents]")
        route.locator(".try > summary").click()
        route.get_by_label("Begin with this example").select_option(label="SET a value that is sent along")
        expect(route.get_by_label("Body", exact=True)).to_have_value(re.compile("user:42"))
        shell = route.locator(".try pre").last
        expect(shell).to_contain_text("curl -X POST -H 'Content-Type: application/json' --data-binary")
        route.get_by_role("button", name="Send").click()
        expect(route.locator(".try [role=status]")).to_have_text(re.compile(r"^answered 200 in \d+ ms"))
        expect(route.get_by_role("region", name="Answer to POST /events")).to_contain_text('"status": "stored"')
        status = page.locator("[data-part=route-status]")
        status.locator(".try > summary").click()
        status.get_by_label("span (optional)").select_option("1h")
        status.get_by_role("button", name="Send").click()
        expect(status.get_by_role("region", name="Answer to GET /status.json")).to_contain_text('"span": "1h"')
        assert_sound(page)


ON_ONE_DAEMON = [
    the_documentation_shows_every_route_and_leads_to_its_shapes,
    schemas_are_told_in_sentences,
    the_search_finds_hides_and_opens,
    a_request_is_tried,
]
