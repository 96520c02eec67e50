"""All replicas on the page of one: those that are well, one that is gone, one that hangs, and one with another token."""

import json
import re
import socket

from playwright.sync_api import expect

from browser_tools import HOSTILE, Blobs, assert_sound, assert_whole, press_until, tab
from daemon import Daemon, Redis

TOKEN = "replicas-0123456789abcdef"
LONG = "replica-of-a-very-long-name." * 4


class Hung:
    """`with Hung() as port`: takes connections and never answers."""

    def __enter__(self):
        self.socket = socket.create_server(("127.0.0.1", 0))
        return self.socket.getsockname()[1]

    def __exit__(self, *_):
        self.socket.close()


def open_door(page):
    expect(page.locator("#token")).to_be_focused()
    page.keyboard.type(TOKEN)
    page.keyboard.press("Enter")


def all_replicas_are_shown_and_one_that_goes_is_told(browser):
    settings = {"CACHE_BACKEND": "redis", "AUTH_TOKENS": TOKEN}
    with Redis() as redis, Daemon(**settings, REDIS_PORT=str(redis.port)) as other, Daemon(**settings, REDIS_PORT=str(redis.port)) as gone:
        with Daemon(**settings, REDIS_PORT=str(redis.port), HTTP_PEERS=f"{other.url},{gone.url}") as daemon:
            with tab(browser, daemon.url, quiet=False) as page:
                open_door(page)
                expect(page.locator("#replicas-verdict")).to_contain_text("✓ All 3 replicas are well. Together ")
                rows = page.locator("#replicas tr")
                expect(rows).to_have_count(3)
                expect(rows.filter(has_text="this one")).to_have_count(1)
                row = rows.filter(has_text=other.url.removeprefix("http://"))
                for text in ("✓ well", f"localhost:{redis.port}", " %"):
                    expect(row).to_contain_text(text)
                expect(page.locator("#health-title")).to_have_text("Health of this replica")
                gone.process.kill()
                expect(page.locator("#replicas-verdict")).to_contain_text("! 2 of 3 replicas are well.")
                # The worst is the first.
                expect(rows.first).to_contain_text(gone.url.removeprefix("http://"))
                expect(rows.first).to_contain_text(re.compile(r"✗ unknown for \d+ s"))
                expect(rows.first.locator(".reason")).to_contain_text("refused")
                head = page.locator("#replicas-head").get_by_role("button", name="Replica")
                expect(head).to_be_in_viewport()
                head.click()
                expect(page.locator("#replicas-head th").first).to_have_attribute("aria-sort", re.compile("ending$"))
                expect(page.locator("#state")).to_have_text("✓ ready")


def another_replicas_own_page_is_opened_without_the_token(browser):
    with Daemon(AUTH_TOKENS=TOKEN) as other, Daemon(AUTH_TOKENS=TOKEN, HTTP_PEERS=other.url) as daemon:
        with tab(browser, daemon.url, quiet=False) as page:
            open_door(page)
            link = page.locator("#replicas a")
            expect(link).to_have_attribute("href", f"{other.url}/")
            press_until(page, "Tab", "#replicas a")
            # The table is made anew every second or two, and the keyboard stays where it is.
            with page.expect_response("**/replicas.json"), page.expect_response("**/replicas.json"):
                pass
            expect(link).to_be_focused()
            with page.context.expect_page() as opened:
                page.keyboard.press("Enter")
            theirs = opened.value
            asked = []
            theirs.on("request", lambda request: asked.append(request.all_headers()))
            expect(theirs.locator("#token")).to_be_visible()
            theirs.reload()
            expect(theirs.locator("#token")).to_be_visible()
            assert theirs.url == f"{other.url}/" and theirs.evaluate("window.opener === null && !document.referrer")
            assert theirs.evaluate("JSON.stringify(sessionStorage)") == "{}"
            assert asked and not any({"authorization", "referer"} & {*headers} and TOKEN in str(headers) for headers in asked), asked
            assert_whole(theirs)
            theirs.close()


def replicas_that_do_not_answer_are_told_and_nothing_waits_for_them(browser):
    with Hung() as hung, Daemon(AUTH_TOKENS="another-0123456789abcdef") as strict, Daemon(AUTH_TOKENS=TOKEN) as well:
        peers = [f"http://127.0.0.1:{hung}", strict.url, well.url, f"http://{LONG}invalid:8080"]
        with Daemon(AUTH_TOKENS=TOKEN, HTTP_PEERS=",".join(peers)) as daemon:
            with tab(browser, daemon.url, quiet=False) as page:
                open_door(page)
                expect(page.locator("#state")).to_have_text("✓ ready")
                expect(page.locator("#replicas-verdict")).to_contain_text("! 2 of 5 replicas are well.")
                reasons = page.locator("#replicas .reason")
                expect(reasons).to_have_count(3)
                for reason in ("no answer within", "does not accept this token", "name"):
                    expect(reasons.filter(has_text=reason).first).to_be_visible()
                # Not within a word as long as there is a better place.
                assert page.locator("#replicas wbr").count() > 5
                # Only what answers has a page of its own.
                expect(page.locator("#replicas a")).to_have_count(1)
                assert_sound(page)


def what_a_replica_says_is_text_and_without_peers_there_is_no_table(browser):
    with Daemon() as daemon, tab(browser, daemon.url) as page:
        expect(page.locator("#state")).to_have_text("✓ ready")
        expect(page.locator("#replicas-card")).to_be_hidden()
        expect(page.locator("#health-title")).to_have_text("Health")
    with Daemon() as honest:
        told = {**honest.get("/replica.json"), "instance": "other", "name": HOSTILE, "why": HOSTILE, "state": "down"}
    with Blobs() as lying:
        lying.answers["/replica.json"] = (200, json.dumps(told).encode())
        with Daemon(HTTP_PEERS=lying.url) as daemon, tab(browser, daemon.url) as page:
            expect(page.locator("#replicas tr").first).to_contain_text("<img src=x")
            assert_sound(page)
            assert page.evaluate("window.hacked") is None


ALONE = [
    all_replicas_are_shown_and_one_that_goes_is_told,
    another_replicas_own_page_is_opened_without_the_token,
    replicas_that_do_not_answer_are_told_and_nothing_waits_for_them,
    what_a_replica_says_is_text_and_without_peers_there_is_no_table,
]
