"use strict";
// A client of Penstock's answers, as a shop's own page could be. Read it from the top: the clock, the
// flag, the purchase. It also works without Penstock: then there is no flag, and the shop answers itself.

const WORDS = {
  en: {
    other: "中文", shop: "The small shop", event: "Activity", kicker: "Tickets · one evening only", city: "City", halls: "Halls", buy: "Buy a ticket", buying: "One moment …",
    opens: "Sales open in", open: "On sale since", is_over: "The sale is over", s_not_started: "Not open yet", s_available: "On sale",
    s_sold_out: "Sold out", s_ended: "Over", s_paused: "Paused", s_busy: "On sale, very busy", s_unknown: "On sale",
    you: "You are", change: "be somebody else", nobody: "nobody yet", again: "We ask again by ourselves; your request keeps its number.",
    admitted: ["Your ticket is booked", "Order"], confirmed: ["Your ticket is booked", "Order"], replayed: ["Your ticket is booked", "Order"],
    pending: ["Your order is being processed", "It may have gone through. Do not order elsewhere: we keep asking with the same number."],
    not_started: ["Not open yet", "The button opens by itself, by the shop's clock."],
    paused: ["The sale is paused", "Stay on this page: it goes on by itself."],
    login_required: ["Please log in", "The shop does not know who you are."],
    sold_out: ["Sold out", "Every ticket is taken. If some come back, the button comes back."],
    sold_out_final: ["Sold out", "Every ticket is taken, and none will come back."],
    ended: ["The sale has ended", ""], insufficient: ["Fewer tickets are left than you asked for", ""],
    already: ["You have one already", "One ticket each, so that more people get one."],
    limit: ["You have as many as one may buy", ""], in_progress: ["Your order is on its way", "You pressed twice, or in two windows; that is fine."],
    key_reused: ["Please try again", "This number belonged to another order."],
    busy: ["Every ticket is in somebody's hands just now", "Some of them will let go."],
    unavailable: ["Please stay: back in a moment", "You were not refused, we only cannot count just now."],
    rate_limited: ["Too fast", "More presses do not help."], declined: ["The shop declined the order", "Nothing was booked."],
    unknown_item: ["There is no such ticket", ""], unknown_activity: ["There is no such event", ""],
    silent: ["No answer came", "Your order may exist. Asking again with the same number is safe."],
    shop_error: ["The shop had a problem", "Your order may exist. Asking again with the same number is safe."],
    other_answer: ["That did not work", ""],
  },
  zh: {
    other: "English", shop: "小店", event: "活动", kicker: "演出票 · 仅此一晚", city: "城市", halls: "场馆", buy: "立即抢票", buying: "请稍候 …",
    opens: "距开售", open: "已开售", is_over: "活动已结束", s_not_started: "未开始", s_available: "售票中",
    s_sold_out: "已售罄", s_ended: "已结束", s_paused: "已暂停", s_busy: "售票中，非常繁忙", s_unknown: "售票中",
    you: "当前用户", change: "换一个人", nobody: "未登录", again: "页面会自动重试，请求编号不变。",
    admitted: ["抢票成功", "订单号"], confirmed: ["抢票成功", "订单号"], replayed: ["抢票成功", "订单号"],
    pending: ["订单处理中", "订单可能已经成功，请勿在别处重复下单；页面会用同一编号继续查询。"],
    not_started: ["活动尚未开始", "到点后按钮会自动打开，以店铺时钟为准。"],
    paused: ["活动暂停", "请留在本页，恢复后会自动继续。"],
    login_required: ["请先登录", "店铺不知道您是谁。"],
    sold_out: ["已抢光", "票已全部售出；如有退票，按钮会重新出现。"],
    sold_out_final: ["已抢光", "票已全部售出，不会再有退票。"],
    ended: ["活动已结束", ""], insufficient: ["余票不足", ""],
    already: ["您已经有一张了", "每人一张，让更多人有机会。"],
    limit: ["已达限购数量", ""], in_progress: ["订单提交中", "您可能点了两次，没有关系。"],
    key_reused: ["请重试", "这个编号属于另一笔订单。"],
    busy: ["所有的票都正在被别人结算", "会有人放弃的。"],
    unavailable: ["请稍候，马上回来", "您没有被拒绝，只是此刻无法计数。"],
    rate_limited: ["操作太频繁", "多点没有用。"], declined: ["店铺拒绝了订单", "没有扣票。"],
    unknown_item: ["没有这种票", ""], unknown_activity: ["没有这个活动", ""],
    silent: ["没有收到回答", "订单可能已存在；用同一编号再问是安全的。"],
    shop_error: ["店铺出了问题", "订单可能已存在；用同一编号再问是安全的。"],
    other_answer: ["没有成功", ""],
  },
};
const $ = (id) => document.getElementById(id);
const store = (name, value) => value === undefined ? localStorage.getItem(name) : value === null ? localStorage.removeItem(name) : localStorage.setItem(name, value);
let language = store("language") || (navigator.language.startsWith("zh") ? "zh" : "en");
const t = (word) => WORDS[language][word];
const base = location.pathname.replace(/\/$/, "");
const random = (ms) => Math.random() * ms;

// ---------- the clock: the edge's, not this machine's ----------

let clock = { offset: 0, trip: Infinity };
function sample(server, sent) {
  const trip = Date.now() - sent;
  // The answer that came fastest tells the time best.
  if (server && trip <= clock.trip) clock = { offset: Number(server) + trip / 2 - Date.now(), trip };
}
const now = () => Date.now() + clock.offset;
async function askTime() {
  const sent = Date.now();
  const answer = await fetch("/_penstock/time", { cache: "no-store" }).catch(() => null);
  sample(answer?.headers.get("penstock-time"), sent);
}

// ---------- the flag: availability, polled as it says itself ----------

let flag = null, etag = null, timer = 0, failures = 0, ungated = false;
async function poll() {
  clearTimeout(timer);
  const sent = Date.now();
  try {
    const answer = await fetch(`${base}/availability`, { cache: "no-store", headers: etag ? { "if-none-match": etag } : {} });
    sample(answer.headers.get("penstock-time"), sent);
    if (answer.ok) {
      const told = await answer.json(), heard = told.data ?? told;
      // An answer that was overtaken on its way says nothing about now.
      const older = flag && (heard.epoch < flag.epoch || heard.epoch === flag.epoch && heard.version < flag.version);
      if (!older) { flag = heard; etag = answer.headers.get("etag"); }
    } else if (answer.status !== 304 && answer.status !== 404) throw new Error(answer.status);
    failures = 0;
    ungated = answer.status === 404;
    if (!ungated) plan();
  } catch {
    failures += 1;
    timer = setTimeout(poll, Math.min(30000, 1000 * 2 ** failures) + random(1000));
  }
  draw();
}
function plan() {
  if (flag.poll_ms === null || document.hidden) return;
  let wait = flag.poll_ms + random(flag.jitter_ms);
  const left = flag.opens_at_ms - now();
  // Nobody need ask at T0: the clock opens the button. Whoever would ask just then asks a little later.
  if (left > 0 && wait > left - 1000) wait = left + 1500 + random(3000);
  timer = setTimeout(poll, wait);
}
document.addEventListener("visibilitychange", () => { clearTimeout(timer); if (!document.hidden) poll(); });

function state() {
  if (!flag) return "unknown";
  if (flag.ends_at_ms && now() >= flag.ends_at_ms) return "ended";
  return flag.state === "not_started" && now() >= flag.opens_at_ms ? "available" : flag.state;
}
const buyable = () => ungated || state() === "available" && (flag.buyable || flag.state === "not_started" && flag.hint !== "paused");

// ---------- the purchase: one number for one wish, kept until it is settled ----------

const who = () => document.cookie.match(/(?:^|; )uid=([^;]+)/)?.[1];
const wish = () => `wish ${base} ${who()}`;
function key() {
  if (!store(wish())) store(wish(), [...crypto.getRandomValues(new Uint8Array(16))].map((n) => n.toString(16).padStart(2, "0")).join(""));
  return store(wish());
}
const AGAIN = ["pending", "in_progress", "busy", "unavailable", "rate_limited", "not_started", "paused", "too_early"];
let working = false, last = null, isFirst = true;

async function buy() {
  working = true;
  last = null;
  draw();
  // The first purchases after T0 are spread a little; each client draws once.
  if (isFirst && flag?.spread_ms && now() - flag.opens_at_ms < 3000) await sleep(random(flag.spread_ms));
  isFirst = false;
  for (let tries = 0; ; tries++) {
    last = await order();
    draw();
    const again = AGAIN.includes(last.reason) || ["silent", "shop_error"].includes(last.word);
    if (!again || tries >= 12) break;
    last.again = true;
    draw();
    await sleep(last.wait ?? Math.min(8000, 1000 * 2 ** tries) + random(500));
  }
  if (last.word !== "pending" && last.word !== "silent" && last.word !== "shop_error") store(wish(), null);
  if (last.good) store(`order ${base} ${who()}`, last.order ?? "");
  working = false;
  draw();
  if (flag) poll();
}
async function order() {
  const pool = $("pool").value, body = pool ? { pool } : {};
  let answer;
  try {
    answer = await fetch(`${base}/orders`, { method: "POST", headers: { "content-type": "application/json", "idempotency-key": key() }, body: JSON.stringify(body) });
  } catch { return { word: "silent" }; }
  const told = await answer.json().catch(() => ({}));
  const data = told.data ?? told, ours = answer.headers.get("penstock-reason");
  const number = told.order ?? data?.orderNo ?? data?.order_id ?? data?.order;
  const wait = data?.retry_after_ms ?? (Number(answer.headers.get("retry-after")) * 1000 || undefined);
  // Nobody of Penstock's refused it: the shop's own words count.
  if (!ours || ours === "admitted" || ours === "replayed" || ours === "confirmed") {
    const word = ["sold_out", "declined", "busy"].find((word) => [told.error, told.msg].includes(word));
    if (word) return { word, reason: word === "busy" ? "busy" : null, wait };
    if (answer.ok && (told.code ?? 0) === 0 || ours === "confirmed") return { word: "admitted", good: true, order: number };
    return answer.status >= 500 || told.code >= 5000 ? { word: "shop_error" } : { word: "other_answer", detail: told.error ?? told.msg };
  }
  const word = ours === "sold_out" && data.final ? "sold_out_final" : ours;
  return { word: t(word) ? word : "other_answer", reason: data.final ? null : ours, detail: t(word) ? null : told.title ?? told.msg, wait };
}
const sleep = (ms) => new Promise((done) => setTimeout(done, ms));

// ---------- what is seen ----------

function span(ms) {
  const s = Math.max(0, Math.floor(ms / 1000)), two = (n) => String(n).padStart(2, "0"), days = Math.floor(s / 86400);
  return (days ? `${days} d ` : "") + `${two(Math.floor(s / 3600) % 24)}:${two(Math.floor(s / 60) % 60)}:${two(s % 60)}`;
}
function draw() {
  document.documentElement.lang = language;
  for (const node of document.querySelectorAll("[data-t]")) node.textContent = t(node.dataset.t);
  const is = state(), hint = is === "available" && flag?.state === "available" ? flag.hint : null;
  const word = hint === "paused" || hint === "busy" ? hint : is;
  $("state").className = hint === "paused" ? "wait" : is;
  $("state").textContent = t(`s_${word}`);
  $("state").hidden = !flag;
  const clocked = { not_started: ["opens", flag?.opens_at_ms - now() + 999], available: ["open", now() - flag?.opens_at_ms], sold_out: ["open", now() - flag?.opens_at_ms], ended: ["is_over"] }[is];
  $("label").textContent = clocked ? t(clocked[0]) : "";
  $("time").textContent = clocked?.[1] === undefined ? "" : span(clocked[1]);
  const mine = who() ? store(`order ${base} ${who()}`) : null;
  $("buy").textContent = working ? t("buying") : is === "sold_out" ? t("s_sold_out") : is === "ended" ? t("s_ended") : t("buy");
  $("buy").disabled = working || !buyable();
  $("user").textContent = who() ?? t("nobody");
  const shown = last ?? (mine !== null ? { word: "admitted", good: true, order: mine } : null);
  $("said").className = !shown ? "" : shown.good ? "good" : shown.again ? "wait" : "bad";
  const title = document.createElement("b"), more = document.createElement("span");
  if (shown) {
    const [head, rest] = t(shown.word);
    title.textContent = head;
    more.textContent = shown.good ? (shown.order ? `${rest} ${shown.order}` : "") : [rest, shown.detail, shown.again ? t("again") : ""].filter(Boolean).join(" ");
  }
  $("said").replaceChildren(title, more);
  const pools = Object.entries(flag?.pools ?? {}), select = $("pool");
  select.hidden = pools.length === 0;
  if (select.options.length !== pools.length) select.replaceChildren(...pools.map(([name]) => new Option(name, name)));
  pools.forEach(([name, is], at) => { select.options[at].text = is === "sold_out" ? `${name} · ${t("s_sold_out")}` : name; select.options[at].disabled = is === "sold_out"; });
}
function login() {
  document.cookie = `uid=web${Math.floor(random(1e9))};path=/;samesite=lax`;
  last = null;
  isFirst = true;
}

$("buy").onclick = buy;
$("language").onclick = () => { language = language === "en" ? "zh" : "en"; store("language", language); draw(); };
$("change").onclick = () => { login(); draw(); };
if (!who()) login();
draw();
setInterval(draw, 250);
// Two samples of the clock; the second has a warm connection.
askTime().then(askTime).then(poll);
