
// --- All replicas ---

/// Longer than the service takes to ask them.
const REPLICAS_WITHIN_MS = 10_000;
let isAsking = false;

/// Shows all replicas, if this one knows where they are. Nothing else of the page waits for that.
async function replicas({ service }) {
  at("replicas-card").hidden = at("jump-replicas").hidden = !service.has_peers;
  say(at("health-title"), service.has_peers ? "Health of this replica" : "Health");
  if (!service.has_peers || isAsking) return;
  isAsking = true;
  try {
    show_all(await ask("/replicas.json", { signal: AbortSignal.timeout(REPLICAS_WITHIN_MS) }));
  } catch (error) {
    say(at("replicas-verdict"), `✗ The replicas cannot be shown: ${error.message}`);
    at("replicas-verdict").className = "bad";
  }
  isAsking = false;
}

function show_all({ replicas: rows, well, left_out }) {
  const all = rows.length;
  const how = well === all ? (all === 1 ? "✓ This replica is well; no other is known." : `✓ All ${count(all)} replicas are well.`) : `${well ? "!" : "✗"} ${count(well)} of ${count(all)} replicas ${well === 1 ? "is" : "are"} well.`;
  const rate = rows.reduce((sum, { replica }) => sum + (replica ? replica.events_per_second : 0), 0);
  const more = left_out ? ` ${count(left_out)} more addresses were not asked.` : "";
  say(at("replicas-verdict"), `${how} Together ${short(rate)} events a second.${more}`);
  at("replicas-verdict").className = well === all ? "good" : well ? "warn" : "bad";
  show_replicas(rows);
}

/// The worst last; a replica that does not answer is worse than one that says what is wrong.
const RANKS = ["ok", "degraded", "down"];
const rank = ({ replica }) => (replica ? RANKS.indexOf(replica.state) : RANKS.length);
const replica_mood = ({ replica }) => (replica ? MOODS[replica.state] : "bad");

/// Leads to the page of that replica. No token goes along: a tab keeps it for one origin alone.
function replica_name({ address, page, is_this, replica }) {
  const named = replica && replica.name;
  const name_ = host_name(named || address || "this one");
  const isLink = !is_this && page && /^https?:\/\//.test(page);
  return [isLink ? make("a", { href: page, target: "_blank", rel: "noopener noreferrer", "aria-label": `${named || "replica"} at ${address}` }, name_) : name_, is_this ? [" ", make("span", { class: "tag" }, "this one")] : null,
    named && address ? make("div", { class: "quiet url" }, host_name(address)) : null].flat();
}

function replica_state({ replica, silent_since_ms, silent_why }) {
  if (replica && replica.state === "ok") return make("span", {}, `${SIGNS.ok} well`);
  const [sign, since_ms, why] = replica ? [`${SIGNS[replica.state]} not well`, replica.since_ms, replica.why] : [`${SIGNS.down} unknown`, silent_since_ms, silent_why];
  return make("div", {}, make("strong", {}, `${sign} ${since(since_ms)}`), make("div", { class: "reason" }, breakable(why)));
}

/// A column of what a replica tells of itself.
const told = (label, of, rest) => ({ label, of: ({ replica }) => (replica ? of(replica) : null), ...rest });
const or_dash = (text) => (value) => (value === null ? "–" : text(value));

const show_replicas = sortable("replicas", [
  { label: "Replica", of: ({ address, replica }) => (replica && replica.name) || address || "", cell: replica_name },
  { label: "State", of: rank, cell: replica_state, mood: replica_mood, isNumber: false, isWide: true },
  told("Events/s", ({ events_per_second }) => events_per_second, { text: or_dash(short), isNumber: true }),
  told("p99", ({ p99_ms }) => p99_ms, { text: milliseconds, isNumber: true }),
  told("Admission", ({ admission }) => admission, { text: or_dash((part) => `${short(100 * part)} %`), isNumber: true, mood: ({ replica }) => (replica && replica.admission >= 0.9 ? "warn" : "") }),
  told("Redis", ({ redis_up, redis }) => `${redis_up ? "✓" : "✗"} ${redis}`, { text: or_dash(String), mood: ({ replica }) => (replica && !replica.redis_up ? "bad" : "") }),
  told("Journal", ({ has_lease }) => (has_lease === null ? "–" : has_lease ? "feeds it" : "waits"), { text: or_dash(String) }),
  told("Up for", ({ uptime_seconds }) => uptime_seconds, { text: or_dash(duration), isNumber: true }),
  told("Version", ({ version }) => version, { text: or_dash(String) }),
], 1);
