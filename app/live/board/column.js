// One column: who, state, figures in fixed slots, and the text.

const GOOD = new Set(["succeeded", "replayed"]);
const STALL_MS = 5000;

class Column {
  constructor(board, i) {
    this.board = board;
    this.i = i;
    this.col = null;
    this.follow = true;
    this.touchedReasoning = false;
    this.build();
  }

  build() {
    const root = (this.node = el("section", "col"));
    const head = el("header");
    const title = el("div", "title");
    this.name = el("h3", "name");
    this.round = el("span", "round");
    title.append(this.name, this.round);
    this.kind = el("div", "kind");
    const state = el("div", "state");
    this.dot = el("span", "dot");
    this.words = el("span", "words");
    this.clock = el("span", "clock");
    this.button = el("button", "act");
    this.button.type = "button";
    this.button.onclick = () => this.board.act(this);
    state.append(this.dot, this.words, this.clock, this.button);
    head.append(title, this.kind, state);

    this.figs = el("div", "figs");
    this.figs.tabIndex = 0;
    this.figs.setAttribute("role", "group");
    this.slots = FIGURES.map((spec, n) => {
      const cell = el("div", "fig");
      const value = el("b");
      cell.append(el("span", "", spec.label), value);
      cell.onpointerenter = (event) => event.pointerType === "mouse" && this.tip(n);
      cell.onpointerleave = () => this.board.tooltip.hide();
      cell.onclick = () => this.tip(n);
      this.figs.append(cell);
      return { spec, cell, value };
    });
    this.figs.onkeydown = (event) => this.walkFigures(event);
    this.figs.onblur = () => this.board.tooltip.hide();

    this.server = el("div", "server");
    this.server.hidden = true;
    this.server.onpointerenter = (event) => event.pointerType === "mouse" && this.serverTip();
    this.server.onpointerleave = () => this.board.tooltip.hide();
    this.server.onclick = () => this.serverTip();

    this.body = el("div", "body");
    this.body.tabIndex = 0;
    this.body.setAttribute("role", "region");
    this.thinking = el("details", "thinking");
    this.thinkingLabel = el("summary", "", "reasoning");
    this.thinkingLabel.onclick = () => (this.touchedReasoning = true);
    this.reasoning = new GrowingText("reasoning");
    this.thinking.append(this.thinkingLabel, this.reasoning.node);
    this.answer = new GrowingText("answer");
    this.note = el("p", "note");
    this.body.append(this.thinking, this.answer.node);
    this.body.onscroll = () => {
      const b = this.body;
      this.follow = b.scrollHeight - b.scrollTop - b.clientHeight < 24;
      this.toEnd.hidden = this.follow || !this.running;
    };
    this.toEnd = el("button", "to-end", "to the end");
    this.toEnd.type = "button";
    this.toEnd.hidden = true;
    this.toEnd.onclick = () => this.scrollToEnd();
    // Below the text, not in it: why an answer failed must be seen without scrolling.
    root.append(head, this.figs, this.server, this.body, this.note, this.toEnd);
  }

  get running() {
    return this.col != null && this.col.phase !== "done";
  }

  get title() {
    return this.board.blind ? String.fromCharCode(65 + this.i) : this.col.name;
  }

  get elapsed() {
    return this.running ? this.col.elapsed_ms + (performance.now() - this.toldAt) : this.col.elapsed_ms;
  }

  get idle() {
    return (this.col.idle_ms || 0) + (performance.now() - this.toldAt);
  }

  get cursor() {
    const { rep = 1, attempt = 1 } = this.col;
    return { i: this.i, rep, attempt, answer: this.answer.points, reasoning: this.reasoning.points };
  }

  // A full or resumed column. False when the texts do not fit together and all must be sent again.
  take(col) {
    const sameCall = this.col && this.col.rep === col.rep && this.col.attempt === col.attempt;
    if (!sameCall && this.col) this.emptyTexts();
    const { answer, reasoning, answer_from, reasoning_from, ...fields } = col;
    this.col = fields;
    this.toldAt = performance.now();
    this.draw();
    const fits = [this.answer.resume(answer_from || 0, answer || ""), this.reasoning.resume(reasoning_from || 0, reasoning || "")];
    return fits[0] && fits[1];
  }

  change(delta) {
    if (!this.col) return;
    const { a, r, reset, ...fields } = delta;
    if (reset) this.emptyTexts();
    const now = performance.now();
    if (this.running) {
      if (!("elapsed_ms" in fields)) fields.elapsed_ms = this.elapsed;
      if (!("idle_ms" in fields)) fields.idle_ms = a || r ? 0 : this.idle;
    }
    Object.assign(this.col, fields);
    this.toldAt = now;
    this.answer.append(a);
    this.reasoning.append(r);
    this.dirty = true;
  }

  emptyTexts() {
    this.answer.clear();
    this.reasoning.clear();
    this.follow = true;
    this.touchedReasoning = false;
  }

  draw() {
    const { col, board, running } = this;
    const blind = board.blind;
    const slot = col.color || 0;
    this.node.style.setProperty("--c", blind ? "var(--wait)" : board.color(slot));
    this.node.classList.toggle("dashed", !blind && slot >= board.colors);
    this.node.classList.toggle("blind", blind);
    put(this.name, this.title);
    this.name.title = blind ? "" : this.title;
    put(this.round, [col.reps > 1 ? `${col.rep} of ${col.reps}` : "", col.attempt > 1 ? `attempt ${col.attempt}` : ""].filter(Boolean).join(" · "));
    const kind = [...(col.labels || []), col.badge, col.model].filter((x, n, all) => x && all.indexOf(x) === n).join(" · ");
    put(this.kind, blind ? "" : kind);
    this.kind.title = blind ? "" : kind;
    this.dot.dataset.mark = col.failed ? "bad" : running ? (this.writing ? "live" : "wait") : GOOD.has(col.state) ? "good" : "wait";
    this.node.classList.toggle("failed", Boolean(col.failed));
    this.figs.setAttribute("aria-label", `Figures of ${this.title}; arrow keys explain each one`);
    this.body.setAttribute("aria-label", `Answer of ${this.title}`);
    const fig = col.fig || {};
    for (const { spec, cell, value } of this.slots) {
      const text = spec.show(fig, running);
      put(value, text);
      cell.classList.toggle("muted", text.startsWith(DASH) || Boolean(spec.muted && spec.muted(fig)));
    }
    const server = running && board.live && !blind ? gaugeWords(col.gauge) : "";
    put(this.server, server);
    this.server.hidden = !server;
    const verb = running ? "stop" : "retry";
    this.button.hidden = !board.mayAct || (running && !board.live);
    put(this.button, verb);
    this.button.setAttribute("aria-label", `${verb} ${this.title}`);
    this.thinking.hidden = !this.reasoning.length;
    if (!this.touchedReasoning) this.thinking.open = running && col.phase === "reasoning";
    const bar = col.bar || {};
    const thought = bar.reason_end != null && bar.wait_end != null ? bar.reason_end - bar.wait_end : null;
    put(this.thinkingLabel, thought > 0 && !blind ? `reasoning, ${seconds(thought)}` : "reasoning");
    this.tick();
  }

  get writing() {
    return this.col.phase === "reasoning" || this.col.phase === "answering";
  }

  // What changes with the clock alone; called about ten times a second while the column runs.
  tick() {
    const { col, running, board } = this;
    const idle = this.idle;
    const stalled = running && this.writing && idle > STALL_MS ? ` · no token for ${Math.floor(idle / 1000)} s` : "";
    put(this.words, (col.words || col.phase) + stalled);
    put(this.clock, board.blind || !running ? "" : seconds(this.elapsed, true));
    put(this.note, this.remark());
    this.note.hidden = !this.note.textContent;
  }

  remark() {
    const { col, running, board } = this;
    // Notes name the deployment, so a blind board has words of its own.
    if (board.blind && (col.failed || col.state === "cancelled")) return "This answer is not complete.";
    if (col.note && !board.blind) return col.note;
    if (!running || this.answer.length || this.reasoning.length || col.phase !== "waiting" || board.blind) return "";
    if (!col.typical_ttft_ms || this.elapsed <= col.typical_ttft_ms) return "";
    const typical = `${seconds(col.typical_ttft_ms)} (n = ${col.typical_n})`;
    return `Sent ${Math.floor(this.elapsed / 1000)} s ago, nothing has come back yet. The typical first token here is ${typical}: this one is slow.`;
  }

  tip(n) {
    const { spec, cell } = this.slots[n];
    this.at = n;
    this.board.tooltip.show(cell, spec.label, figureTip(spec, this.col.fig || {}, this.running));
  }

  serverTip() {
    this.board.tooltip.show(this.server, "server", gaugeTip(this.col.gauge));
  }

  walkFigures(event) {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1, Enter: 0, " ": 0 }[event.key];
    if (event.key === "Escape") this.board.tooltip.hide();
    if (step === undefined) return;
    event.preventDefault();
    this.tip(((this.at ?? -step) + step + this.slots.length) % this.slots.length);
  }

  scrollToEnd() {
    this.body.scrollTop = this.body.scrollHeight;
  }
}
