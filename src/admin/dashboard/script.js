
const $ = (id) => document.getElementById(id);
let language = localStorage.getItem("language") || (navigator.language.startsWith("zh") ? "zh" : "en");
const t = (word) => WORDS[language][word] ?? word;

let stats = null;      // the last second's word of the node
let points = [];       // the curve, a point for each second
let heard = 0;         // when that word came, by our own clock
let offsets = [];      // ledger's clock less ours, as the last words had it
let shown = decodeURIComponent(location.hash.slice(1));

// ---------- small things ----------

function make(tag, cls, text) {
  const node = document.createElement(tag);
  if (cls) node.className = cls;
  if (text !== undefined) node.textContent = text;
  return node;
}
const number = (n) => n === null || n === undefined ? "–" : n.toLocaleString("en-US");
const rate = (n) => n >= 100 ? number(Math.round(n)) : number(Math.round(n * 10) / 10);
const millis = (ms) => ms === null || ms === undefined ? "–" : ms >= 1000 ? `${ms / 1000} s` : `${ms} ms`;
function bytes(n) {
  if (!n) return "–";
  const unit = n >= 2 ** 30 ? [2 ** 30, "GiB"] : n >= 2 ** 20 ? [2 ** 20, "MiB"] : [2 ** 10, "KiB"];
  return `${(n / unit[0]).toFixed(n >= 2 ** 30 ? 1 : 0)} ${unit[1]}`;
}
function span(ms) {
  const s = Math.floor(Math.abs(ms) / 1000);
  const two = (n) => String(n).padStart(2, "0");
  const days = Math.floor(s / 86400);
  return (days ? `${days} ${t("days")} ` : "") + `${two(Math.floor(s / 3600) % 24)}:${two(Math.floor(s / 60) % 60)}:${two(s % 60)}`;
}
const time = (ms) => new Date(ms).toLocaleTimeString("en-GB");
const date = (ms) => `${new Date(ms).toLocaleDateString("sv")} ${time(ms)}`;
// The ledger's clock: the word that came fastest is nearest to it.
const ledger = () => Date.now() + (offsets.length ? Math.max(...offsets) : 0);
function width(node, part, all) {
  node.style.width = `${all > 0 ? Math.max(0, Math.min(100, part * 100 / all)) : 0}%`;
}
function facts(list, rows) {
  list.replaceChildren(...rows.map(([name, value, unit, bad]) => {
    const row = make("div"), dd = make("dd", bad ? "bad" : "", value);
    if (unit) dd.append(" ", make("small", "", unit));
    row.append(make("dt", "", name), dd);
    return row;
  }));
}

// ---------- curves ----------

const SVG = "http://www.w3.org/2000/svg";
function spark(id, curves) {
  const svg = $(id), last = points.slice(-300);
  svg.setAttribute("viewBox", "0 0 300 60");
  svg.setAttribute("preserveAspectRatio", "none");
  const all = curves.map(([name]) => last.map((point) => point[name] ?? null));
  const top = Math.max(1, ...all.flat()), step = 300 / (Math.max(60, last.length) - 1);
  const paths = [];
  all.forEach((values, at) => {
    const x = (i) => (300 - (values.length - 1 - i) * step).toFixed(1);
    const to = (value, i) => `${x(i)},${(58 - value * 56 / top).toFixed(1)}`;
    let line = "", pen = "M", first = null, end = null;
    values.forEach((value, i) => {
      if (value === null) { pen = "M"; return; }
      line += pen + to(value, i);
      pen = "L"; first ??= i; end = i;
    });
    if (first === null) return;
    const path = (d, cls) => {
      const node = document.createElementNS(SVG, "path");
      node.setAttribute("d", d);
      node.setAttribute("class", cls);
      return node;
    };
    if (!line.slice(1).includes("M")) paths.push(path(`${line}L${x(end)},60L${x(first)},60Z`, `area ${curves[at][1]}`));
    const stroke = path(line, curves[at][1]);
    stroke.setAttribute("fill", "none");
    paths.push(stroke);
  });
  svg.replaceChildren(...paths);
  return top;
}

// ---------- the sale ----------

function stateOf(sale) {
  const opened = sale.state === "not_started" && ledger() >= sale.opens_at_ms;
  const state = opened ? "available" : sale.state;
  if (state !== "available" && !(state === "not_started" && sale.paused)) return [state, t(state)];
  if (sale.paused) return ["paused", t("s_paused")];
  if (sale.learning) return ["paused", t("s_learning")];
  if (sale.hint === "busy" || sale.hint === "stale") return ["available", t(`s_${sale.hint}`)];
  return [state, t(state)];
}
function countdown(sale) {
  const now = ledger(), { opens_at_ms: opens, ends_at_ms: ends } = sale;
  if (sale.state === "ended") return ends && now >= ends ? [t("over"), `+${span(now - ends)}`] : [t("was"), `T+${span(now - opens)}`];
  if (now < opens) return [t("opens_in"), `T−${span(opens - now + 999)}`];
  return [t("open_since"), `T+${span(now - opens)}`];
}
const order = { available: 0, not_started: 1, sold_out: 2, ended: 3 };
function ranked() {
  const near = (sale) => Math.abs(sale.opens_at_ms - stats.ledger_ms);
  return [...stats.sales].sort((a, b) => order[a.state] - order[b.state] || near(a) - near(b));
}
function fill(bar, unit) {
  const [sold, held, limbo, over] = bar.children;
  const out = unit.confirmed + unit.held + unit.limbo, all = Math.max(unit.stock, out);
  width(sold, unit.confirmed, all);
  width(held, unit.held, all);
  width(limbo, unit.limbo, all);
  if (over) width(over, 0, all);
}
function mini(unit) {
  const bar = make("div", "mini");
  bar.append(make("i", "sold"), make("i", "held"), make("i", "limbo"));
  fill(bar, unit);
  return bar;
}
function why(sale) {
  const [state] = stateOf(sale), now = stats.per_s, attempts = now.purchase;
  if (state === "paused") return t(sale.paused ? "w_paused" : "w_learning");
  if (state !== "available") return null;
  if (stats.alarms.some((alarm) => alarm.what === "claims")) return t("w_store");
  if (!(attempts > 0) || now.admitted > 0) return null;
  const group = stats.upstreams.find((group) => group.circuit_open || group.servers > 0 && group.held === group.servers);
  if (group) return t("w_down");
  if (sale.room <= 0) return t("w_busy");
  if (stats.upstreams.some((group) => group.purchases >= group.purchases_max)) return t("w_full");
  const most = Object.entries(now.reasons).sort((a, b) => b[1] - a[1])[0];
  return most ? `${t("w_most")} ${most[0]}.` : null;
}
function pace(sale) {
  const last = points.slice(-10), free = sale.stock - sale.confirmed;
  if (sale.state !== "available" || stats.sales.length !== 1 || last.length < 5 || free <= 0) return null;
  const rise = last[last.length - 1].confirmed - last[0].confirmed;
  return rise > 0 ? `${t("pace")} ${span(free * (last.length - 1) * 1000 / rise)}` : null;
}
function hero(sale) {
  $("hero").hidden = false;
  $("sale").textContent = sale.id;
  const parts = [`${t("activity")} ${sale.activity}`, `${t("opens")} ${date(sale.opens_at_ms)}`];
  if (sale.ends_at_ms) parts.push(`${t("ends")} ${date(sale.ends_at_ms)}`);
  const some = (n, word) => `${n} ${t(n === 1 ? word : `${word}s`)}`;
  parts.push(`${t("per_user")} ${some(sale.per_user.orders, "order")}, ${some(sale.per_user.units, "unit")}`);
  if (sale.epoch > 1) parts.push(`${t("epoch")} ${sale.epoch}`);
  if (sale.overshoot_permille !== 1000) parts.push(`${t("overshoot")} ${sale.overshoot_permille / 1000}`);
  const speed = pace(sale);
  if (speed) parts.push(speed);
  $("facts").textContent = parts.join(" · ");
  fill($("bar"), sale);
  const units = { sold: sale.confirmed, held: sale.held, limbo: sale.limbo, room: sale.room, stock: sale.stock };
  for (const [name, value] of Object.entries(units)) {
    const cell = document.querySelector(`#units .${name}`);
    cell.querySelector("dd").textContent = number(value);
    cell.classList.toggle("some", value > 0);
  }
  $("bar").setAttribute("aria-label", Object.entries(units).map(([name, value]) => `${t(name)} ${value}`).join(", "));
  const free = sale.stock - sale.confirmed - sale.held - sale.limbo, bad = sale.pools.some((pool) => pool.room < 0);
  $("light").className = bad ? "bad" : "";
  $("light").lastChild.textContent = bad ? t("broken")
    : `${number(sale.stock)} = ${number(sale.confirmed)} + ${number(sale.held)} + ${number(sale.limbo)} ${free < 0 ? "−" : "+"} ${number(Math.abs(free))} · ${t("conserved")}`;
  const reason = why(sale);
  $("why").hidden = !reason;
  $("why").textContent = reason ? `${t("why")} ${reason}` : "";
  $("pools").replaceChildren(...(sale.pools.length < 2 ? [] : sale.pools.map((pool) => {
    const row = make("div", "pool");
    row.append(make("b", "", pool.name), make("span", "quiet", `${number(pool.confirmed)} / ${number(pool.stock)}${pool.sold_out ? ` · ${t("sold_out")}` : ""}`), mini(pool));
    return row;
  })));
  for (const button of $("actions").querySelectorAll("button")) {
    const verb = button.dataset.verb;
    button.textContent = `${t(verb === "sold_out" ? "do_sold_out" : verb)} …`;
    button.hidden = sale.state === "ended" || (verb === "pause" && (sale.paused || sale.state === "sold_out")) || (verb === "resume" && !sale.paused) || (verb === "sold_out" && sale.state === "sold_out");
  }
}
function others(sales) {
  $("others").hidden = sales.length === 0;
  $("others").replaceChildren(...sales.map((sale) => {
    const row = make("button", "other");
    row.type = "button";
    row.dataset.sale = sale.id;
    row.append(make("b", "", sale.id), make("span", "", stateOf(sale)[1]), make("span", "when", countdown(sale)[1]), mini(sale), make("span", "", `${number(sale.confirmed)} / ${number(sale.stock)}`));
    return row;
  }));
}
const focus = () => stats?.sales.find((sale) => sale.id === shown) ?? (stats?.sales.length ? ranked()[0] : null);

// ---------- the panels ----------

function shop() {
  $("groups").replaceChildren(...stats.upstreams.map((group) => {
    const box = make("div", "group"), line = make("div", "line"), big = make("span", "big", number(group.purchases));
    const down = group.servers > 0 && group.held === group.servers, open = group.circuit_open === true || down;
    big.append(" ", make("small", "quiet", `${t("of")} ${number(group.purchases_max)}`));
    const state = group.held > 0 && !open ? `${group.held} ${t("of")} ${group.servers} ${t("servers_down")}` : `${t("breaker")}: ${t(open ? "open" : "closed")}`;
    line.append(big, make("span", `breaker ${open || group.held ? "bad" : "good"}`, state));
    const bar = make("div", "mini"), flow = make("i", `flow ${group.purchases >= group.purchases_max ? "full" : ""}`);
    bar.append(flow);
    width(flow, group.purchases, group.purchases_max);
    const under = make("p", "quiet", `${group.group}: ${t("under_way")} · ${t("waiting")} ${number(group.purchases_waiting)} · ${t("connects")} ${number(group.waiting)}`);
    box.append(line, bar, under);
    return box;
  }));
  const took = stats.took_ms.shop, slow = took.count > 0 && took.p99 === null;
  facts($("shop-facts"), [
    [t("answers_p50"), took.count ? millis(took.p50) : "–"],
    [t("answers_p99"), slow ? t("too_slow") : millis(took.p99), "", slow],
    [t("unknown_rate"), rate(stats.per_s_10s.unknown), "/s", stats.per_s_10s.unknown > 0],
    [t("f_sold"), rate(stats.per_s_10s.confirmed), "/s"],
  ]);
}
function edge() {
  const { took_ms: took, cache, memory } = stats, part = memory.bytes_max ? memory.bytes / memory.bytes_max : 0;
  const hits = cache.hit_permille;
  facts($("edge-facts"), [
    [t("requests"), rate(stats.per_s.requests)],
    [t("hits"), hits === null ? "–" : `${hits / 10} %`],
    [t("page_p99"), millis(took.page.p99)],
    [t("poll_p99"), millis(took.availability.p99)],
    [t("refusal_p99"), millis(took.purchase.p99)],
    [t("connections"), number(stats.connections), `${t("of")} ${number(stats.connections_max)}`, stats.connections > stats.connections_max * 0.9],
    [t("memory"), bytes(memory.bytes), `${t("of")} ${bytes(memory.bytes_max)}`, part > 0.9],
    [t("cache"), bytes(cache.bytes), `${t("of")} ${bytes(cache.bytes_max)}`],
  ]);
}
function funnel() {
  const now = stats.per_s, all = stats.total;
  const rows = [["f_pages", "page", "head"], ["f_polls", "availability", "head"], ["f_attempts", "purchase", "head"], ["f_refused", "refused", "head"]];
  const body = rows.map(([word, name, cls]) => [t(word), now[name], all[name], cls]);
  const skip = ["admitted", "pending", "replayed", "confirmed", "alias", "not_found", "method", "unknown_host", "bad_gateway", "gateway_timeout", "internal"];
  const reasons = Object.entries(all.reasons).filter(([name]) => !skip.includes(name));
  reasons.sort((a, b) => (now.reasons[b[0]] ?? 0) - (now.reasons[a[0]] ?? 0) || b[1] - a[1]);
  for (const [name, count] of reasons.slice(0, 7)) body.push([name, now.reasons[name] ?? 0, count, "reason"]);
  body.push([t("f_admitted"), now.admitted, all.admitted, "head"], [t("f_sold"), now.confirmed, all.confirmed, "good"], [t("f_failed"), now.failed, all.failed, "reason"]);
  body.push([t("f_unknown"), now.unknown, all.unknown, all.unknown ? "warn" : "reason"], [t("f_pending"), now.pending, all.pending, "reason"]);
  document.querySelector("#funnel tbody").replaceChildren(...body.map(([name, each, total, cls]) => {
    const row = make("tr", cls);
    row.append(make("td", "", name), make("td", "", rate(each)), make("td", "", number(total)));
    return row;
  }));
}
function alarms() {
  const all = stats.alarms;
  $("alarms").hidden = all.length === 0;
  $("alarms").replaceChildren(...all.map((alarm) => {
    const row = make("div");
    row.append(make("b", "", alarm.what.replaceAll("_", " ")), alarm.said);
    if (alarm.command) row.append(make("br"), make("code", "", alarm.command));
    return row;
  }));
}
function caption(id, text, keys) {
  const node = $(id).closest("figure").querySelector("figcaption");
  const left = make("span", "", t(node.dataset.t));
  node.replaceChildren(left, keys ?? make("span", "", text));
}
function curves() {
  caption("spark-shop", `${t("max")} ${number(spark("spark-shop", [["shop", "c-blue"]]))}`);
  caption("spark-shop-p99", `${t("max")} ${millis(spark("spark-shop-p99", [["shop_p99_ms", "c-held"]]))}`);
  spark("spark-purchases", [["refused", "c-held"], ["admitted", "c-sold"]]);
  const keys = make("span", "key");
  keys.append(make("span", "k-held", t("refused")), make("span", "k-sold", t("admitted")));
  caption("spark-purchases", "", keys);
  caption("spark-requests", `${t("max")} ${number(Math.round(spark("spark-requests", [["requests", "c-blue"]])))}`);
  caption("spark-memory", `${t("max")} ${bytes(spark("spark-memory", [["memory", "c-limbo"]]))}`);
}
function log(event) {
  const list = document.querySelector("#log ol"), row = make("li", event.level);
  row.append(make("time", "", time(event.t)), make("span", "", event.text));
  list.prepend(row);
  while (list.children.length > 200) list.lastChild.remove();
}

// ---------- the whole ----------

function words() {
  document.documentElement.lang = language;
  for (const node of document.querySelectorAll("[data-t]")) if (node.tagName !== "FIGCAPTION") node.textContent = t(node.dataset.t);
  $("language").textContent = t("other");
}
function draw() {
  if (!stats) return;
  $("host").textContent = stats.host;
  $("ready").textContent = t(stats.ready ? "ready" : "not_ready");
  $("ready").classList.toggle("bad", !stats.ready);
  $("offset").textContent = `${t("offset")} ${stats.ledger_offset_ms >= 0 ? "+" : "−"}${Math.abs(stats.ledger_offset_ms)} ± ${stats.ledger_error_ms} ms`;
  $("about").textContent = `penstock ${stats.version} · ${t("config")} ${stats.config} · ${t("up")} ${span(stats.up_s * 1000)}`;
  const sale = focus();
  $("empty").hidden = sale !== null;
  $("hero").hidden = sale === null;
  if (sale) hero(sale);
  others(ranked().filter((other) => other.id !== sale?.id));
  alarms();
  shop();
  edge();
  funnel();
  curves();
  tick();
}
function tick() {
  $("clock").textContent = time(ledger());
  const silent = Date.now() - heard, gone = heard > 0 && silent > 4000;
  document.body.classList.toggle("gone", gone);
  $("lost").hidden = !gone;
  if (gone) $("lost").textContent = `${t("lost")} ${span(silent)}`;
  const sale = focus();
  if (!sale) return;
  const [label, shownTime] = countdown(sale);
  $("count-label").textContent = label;
  // Days are no hurry.
  const [, sign, days, rest] = shownTime.match(/^(\D*)(\d+ \S+ )?(.*)$/);
  $("count-time").replaceChildren(sign, ...(days ? [make("small", "", days)] : []), rest);
  const [state, said] = stateOf(sale);
  $("hero").className = `card wide ${state}`;
  $("state").className = state;
  $("state").textContent = said;
  document.title = `${said} ${shownTime} · Penstock`;
}

// ---------- the operator's word ----------

function ask(verb) {
  const sale = focus(), dialog = $("confirm");
  if (!sale) return;
  const command = `penstock sale ${verb.replace("_", "-")} ${sale.id}`;
  dialog.querySelector("h2").textContent = t(`ask_${verb}`);
  dialog.querySelector("p").textContent = `${sale.id}: ${t(`means_${verb}`)}`;
  dialog.querySelector("code").textContent = command;
  dialog.querySelector(".danger").textContent = t(`yes_${verb}`);
  dialog.returnValue = "";
  // A question that nobody answers is no standing order.
  const late = setTimeout(() => dialog.close("no"), 20000);
  dialog.onclose = () => {
    clearTimeout(late);
    if (dialog.returnValue === "yes") send(sale.id, verb, command);
  };
  dialog.showModal();
}
async function send(id, verb, command) {
  const said = $("said");
  said.className = "";
  said.textContent = `${command} …`;
  try {
    const answer = await fetch(`${location.origin}/v1/sales/${id}/${verb}`, { method: "POST", headers: { "penstock-confirm": "1" } });
    const told = await answer.json();
    if (!answer.ok) throw new Error(told.error ?? answer.status);
    said.textContent = `${command}: ${t(told.result === "unchanged" ? "unchanged" : "done")}`;
  } catch (error) {
    said.className = "bad";
    said.textContent = `${t("failed_to")} ${error.message}`;
  }
}

document.addEventListener("click", (event) => {
  const verb = event.target.closest("[data-verb]")?.dataset.verb, sale = event.target.closest("[data-sale]")?.dataset.sale;
  if (verb) ask(verb);
  if (sale) { shown = sale; history.replaceState(null, "", `#${sale}`); draw(); scrollTo(0, 0); }
});
$("language").onclick = () => {
  language = language === "en" ? "zh" : "en";
  localStorage.setItem("language", language);
  words();
  draw();
};

const stream = new EventSource(`${location.origin}/v1/stream`);
stream.addEventListener("history", (event) => { points = JSON.parse(event.data); });
stream.addEventListener("log", (event) => log(JSON.parse(event.data)));
stream.addEventListener("stats", (event) => {
  stats = JSON.parse(event.data);
  heard = Date.now();
  offsets = [...offsets.slice(-19), stats.ledger_ms - heard];
  const { sales, per_s: now, took_ms: took } = stats, sum = (name) => sales.reduce((all, sale) => all + sale[name], 0);
  const point = {
    t: stats.t, requests: now.requests, purchase: now.purchase, refused: now.refused, admitted: now.admitted,
    confirmed: sum("confirmed"), held: sum("held"), limbo: sum("limbo"),
    shop: stats.upstreams.reduce((all, group) => all + group.purchases, 0),
    shop_p99_ms: took.shop.p99, edge_p99_ms: took.page.p99, hit_permille: stats.cache.hit_permille, memory: stats.memory.bytes,
  };
  if (points[points.length - 1]?.t !== point.t) points = [...points.slice(-599), point];
  draw();
});
words();
setInterval(tick, 250);
