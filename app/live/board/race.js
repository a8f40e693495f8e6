// The race: one phase bar per column on one shared time axis.

// [length in s, parts]: the axis takes the first that is long enough, so it grows in few steps.
const AXES = [
  [0.2, 4], [0.5, 5], [1, 4], [2, 4], [3, 3], [4, 4], [5, 5], [6, 3], [8, 4], [10, 5], [15, 3], [20, 4], [30, 3],
  [45, 3], [60, 4], [90, 3], [120, 4], [180, 3], [300, 5], [450, 3], [600, 4], [900, 3], [1800, 3], [3600, 4],
];

function axisFor(ms) {
  return AXES.find(([s]) => s * 1000 >= ms) || [Math.ceil(ms / 3600000) * 3600, 4];
}

// [kind, from, to] in ms from t0, of one column at this instant.
function phases(col, now) {
  const bar = col.bar || {};
  const running = col.phase !== "done";
  const end = running ? now : (bar.end ?? bar.answer_end ?? col.elapsed_ms ?? 0);
  if (running && (col.phase === "queued" || col.phase === "connecting")) return [];
  const waited = Math.min(bar.wait_end ?? end, end);
  const parts = [["wait", 0, waited]];
  if (bar.wait_end != null) {
    const answering = bar.reason_end != null || (running && col.phase === "answering");
    const written = running ? end : (bar.answer_end ?? end);
    const reasoned = answering ? (bar.reason_end ?? waited) : written;
    if (reasoned > waited) parts.push(["reason", waited, Math.min(reasoned, end)]);
    if (answering && written > reasoned) parts.push(["answer", reasoned, written]);
  }
  if (col.failed) parts.push(["bad", parts[parts.length - 1][2], end]);
  return parts;
}

class Race {
  constructor(board) {
    this.board = board;
    this.node = el("div", "race");
    this.lanes = el("div", "lanes");
    this.axis = el("div", "axis");
    this.scale = el("div", "scale");
    this.axis.append(el("span"), this.scale, el("span"));
    this.foot = el("p", "foot");
    this.node.append(this.lanes, this.axis);
    this.rows = [];
    this.end = 0;
  }

  reset() {
    this.lanes.replaceChildren();
    this.rows = [];
    this.end = 0;
  }

  row(n) {
    while (this.rows.length <= n) {
      const lane = el("div", "lane");
      const name = el("span", "lane-name");
      const track = el("div", "track");
      const total = el("span", "total");
      const parts = {};
      for (const kind of ["wait", "reason", "answer", "bad"]) track.append((parts[kind] = el("i", kind)));
      lane.append(name, track, total);
      lane.setAttribute("role", "img");
      this.lanes.append(lane);
      this.rows.push({ lane, name, total, parts });
    }
    return this.rows[n];
  }

  draw(columns) {
    const hidden = this.board.blind;
    this.node.hidden = hidden;
    this.foot.hidden = hidden || !this.foot.textContent;
    if (hidden) return;
    const all = columns.map((column) => ({ column, parts: phases(column.col, column.elapsed) }));
    const longest = Math.max(0, ...all.map(({ parts }) => (parts.length ? parts[parts.length - 1][2] : 0)));
    const [length, ticks] = axisFor(longest);
    if (length * 1000 !== this.end) this.drawAxis(length, ticks);
    all.forEach(({ column, parts }, n) => this.drawLane(this.row(n), column, parts));
  }

  drawAxis(length, parts) {
    this.end = length * 1000;
    const marks = Array.from({ length: parts + 1 }, (_, n) => {
      const mark = el("span", "", `${+((length * n) / parts).toFixed(2)} s`);
      mark.style.left = `${(100 * n) / parts}%`;
      return mark;
    });
    this.scale.replaceChildren(...marks);
  }

  drawLane(row, column, parts) {
    const { col, running } = column;
    row.lane.style.setProperty("--c", this.board.color(col.color || 0));
    row.lane.classList.toggle("dashed", (col.color || 0) >= this.board.colors);
    put(row.name, column.title);
    row.name.title = column.title;
    const share = (ms) => `${((100 * ms) / this.end).toFixed(3)}%`;
    const told = [];
    for (const kind of Object.keys(row.parts)) {
      const part = parts.find(([name]) => name === kind);
      const bar = row.parts[kind];
      bar.hidden = !part;
      if (!part) continue;
      bar.style.left = share(part[1]);
      bar.style.width = share(part[2] - part[1]);
      const word = { wait: "waited", reason: "reasoned", answer: "answered", bad: "failed" }[kind];
      told.push(`${word} ${kind === "bad" ? "at" : "until"} ${seconds(part[2])}`);
    }
    const bar = col.bar || {};
    const total = running ? column.elapsed : (bar.answer_end ?? bar.end ?? null);
    put(row.total, !parts.length ? DASH : running ? `${seconds(total, true)} …` : seconds(total) + (col.failed ? " ×" : ""));
    // Said once per phase and at the end, not ten times a second.
    const key = running ? col.phase : told.join();
    if (row.said !== key) row.lane.setAttribute("aria-label", `${column.title}: ${running ? col.words : told.join(", ") || col.words}`);
    row.said = key;
  }
}
