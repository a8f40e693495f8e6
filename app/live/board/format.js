// Figures in words and fixed places. Every function is pure; null always means "not known" and becomes "–".

const DASH = "–";

function seconds(ms, ticking) {
  if (ms == null) return DASH;
  const s = ms / 1000;
  if (ticking) return s < 100 ? s.toFixed(1) + " s" : Math.floor(s) + " s";
  if (ms < 9.95) return ms.toFixed(1) + " ms";
  if (ms < 100) return ms.toFixed(0) + " ms";
  if (s < 99.995) return s.toFixed(2) + " s";
  return s.toFixed(1) + " s";
}

function speed(tps, estimated) {
  if (tps == null) return DASH;
  return (estimated ? "~" : "") + tps.toFixed(tps < 9.95 ? 1 : 0) + " tok/s";
}

function count(n, estimated) {
  if (n == null) return DASH;
  return (estimated && n ? "~" : "") + Math.round(n).toLocaleString("en-US");
}

function money(cost, mark) {
  if (cost == null || cost === "") return DASH;
  if (!mark || cost.startsWith(mark)) return cost;
  return mark === "~" ? "~" + cost : mark + " " + cost;
}

function codePoints(text) {
  let n = 0;
  for (const _ of text) n += 1;
  return n;
}

// What each slot shows: label, its definition (metrics.md), the text, whether it is muted, and why it is a dash.
const FIGURES = [
  {
    label: "first token",
    about: "From the first byte of the request to the first content, reasoning or answer, measured where the bytes arrive.",
    show: (f) => seconds(f.ttft_ms),
    why: (f, running) => (running ? "Nothing has arrived yet." : "No content arrived."),
  },
  {
    label: "last token",
    about: "From the first byte of the request to the last content. Usage and end signals that come later are not counted.",
    show: (f, running) => (running ? DASH : seconds(f.ttlt_ms)),
    why: (f, running) => (running ? "Known when the last token has arrived." : "No content arrived."),
  },
  {
    label: "decode",
    about: "(Output tokens − 1) / (last token − first token): how fast it writes once it has begun.",
    show: (f) => speed(f.decode_tps, f.decode_est),
    muted: (f) => f.decode_est,
    why: (f, running) => f.decode_hidden || (running ? "Too few tokens so far to mean anything." : "Too few tokens to mean anything."),
  },
  {
    label: "overall",
    about: "Output tokens / time to the last token, the waiting included. Not the same as decode speed.",
    show: (f) => speed(f.e2e_tps, f.e2e_est),
    muted: (f) => f.e2e_est,
    why: (f, running) => (running ? "Nothing has arrived yet." : "The output tokens or the times are not known."),
  },
  {
    label: "in / cached",
    about: "Input tokens, and how many of them the service read from its cache.",
    show: (f) => count(f.in, f.in_est) + " / " + count(f.cached),
    muted: (f) => f.in_est,
    dashed: (f) => f.in == null || f.cached == null,
    why: (f, running) => (running ? "The service has not said yet." : "The service did not say."),
  },
  {
    label: "out",
    about: "Output tokens, reasoning included. ~ is our estimate until the service's own count arrives.",
    show: (f) => count(f.out, f.out_est),
    muted: (f) => f.out_est,
    why: (f, running) => (running ? "Nothing has arrived yet." : "The service did not say."),
  },
  {
    label: "cost",
    about: "Each count times its price at the time of the call. ≥ is a lower bound: what arrived has been billed at least. ~ is an estimate.",
    show: (f) => money(f.cost, f.cost_mark),
    muted: (f) => Boolean(f.cost_mark) || f.cost === "no price",
    extra: (f) => (f.cost_share ? `${f.cost_share} for this call at full use: its time × the price of an hour, as if it had been alone on a machine that is never idle.` : ""),
    why: (f, running) => (running ? "Known when the service has counted the tokens." : "The tokens are not known."),
  },
  {
    label: "own lag",
    about: "Our own error: from the bytes' arrival at this machine to our stamp.",
    show: (f) => (f.self_lag_ms == null ? DASH : f.self_lag_ms.toFixed(1) + " ms" + (f.lag_marked ? " *" : "")),
    extra: (f) => (f.lag_marked ? "* Above max(2 ms, 5 % of the gap between tokens): left out of comparisons." : ""),
    why: (f, running) => (running ? "Not measured yet." : "It was not measured."),
  },
];

function figureTip(spec, fig, running) {
  const dashed = spec.dashed ? spec.dashed(fig) : spec.show(fig, running) === DASH;
  return [spec.about, dashed ? "– " + spec.why(fig, running) : "", spec.extra ? spec.extra(fig) : ""].filter(Boolean);
}

function el(tag, className, text) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text != null) node.textContent = text;
  return node;
}

// Writing the same text again would still make the browser lay it out again.
function put(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

// How the server of a column is, as it says itself; a figure that it does not report is left out, never a zero.
function gaugeWords(gauge) {
  if (!gauge) return "";
  const share = (value) => `${Math.round(value * 100)} %`;
  const told = [
    gauge.running != null && `${count(gauge.running)} running`,
    gauge.waiting != null && `${count(gauge.waiting)} waiting`,
    gauge.kv != null && `KV ${share(gauge.kv)}`,
    gauge.hit != null && `prefix hits ${share(gauge.hit)}`,
  ].filter(Boolean);
  return told.length ? `server: ${told.join(" · ")}` : "";
}

function gaugeTip(gauge) {
  return [
    "What the server says of itself, once a second: the requests it works on and those that wait, from whomever.",
    gauge && gauge.kv != null ? "KV: how much of its memory for contexts is taken." : "It does not report its KV cache.",
    gauge && gauge.hit != null ? "Prefix hits: prompt tokens read from its prefix cache since this run began." : "",
  ].filter(Boolean);
}
