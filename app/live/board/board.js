// The whole board of one run: columns, race, socket. Streamlit calls `render` again on every change; it is idempotent.

const TICK_MS = 100;
const MIN_COLUMN_PX = 224;
const PHONE_PX = 560;
const WHO = ["deployment", "name", "badge", "kind", "model", "labels", "color"];

class Board {
  constructor(root) {
    this.root = root;
    this.columns = new Map();
    this.tall = false;
    const head = el("div", "head");
    this.summary = el("span", "summary");
    this.tallButton = el("button", "", "whole answers");
    this.tallButton.onclick = () => this.setTall(!this.tall);
    this.tallButton.type = "button";
    head.append(this.summary, this.tallButton);
    this.alert = el("p", "trouble");
    this.alert.setAttribute("role", "status");
    this.said = el("p", "heard-only");
    this.said.setAttribute("aria-live", "polite");
    this.grid = el("div", "grid");
    this.race = new Race(this);
    root.append(head, this.alert, this.grid, this.race.node, this.race.foot, this.said);
    this.tooltip = new Tooltip(root);
    this.sizes = new ResizeObserver(() => this.lay());
    this.sizes.observe(root);
    this.reset();
    this.setTall(false);
  }

  reset() {
    if (this.socket) this.socket.close();
    this.socket = null;
    this.columns.clear();
    this.grid.replaceChildren();
    this.race.reset();
    this.blind = false;
    this.live = false;
    this.fired = false;
    this.frames = [];
    this.trouble("");
  }

  // Called by Streamlit on mount, on every rerun that changed something, and on a change of theme.
  update(data, trigger) {
    this.trigger = trigger;
    this.token = data.token;
    this.mayAct = data.may_act;
    this.base = data.base || "";
    put(this.race.foot, data.legend || "");
    // One of several boards beside each other: its column says already whose bar it is, and there is little room.
    this.root.classList.toggle("bare", !data.legend);
    this.setTheme(data.palette);
    if (data.run_id !== this.runId) {
      this.reset();
      this.runId = data.run_id;
    }
    const watching = this.socket !== null;
    // The page knows whether this reader may see who is who; the engine only that the run began blind.
    this.mayKnow = data.snapshot ? !data.snapshot.blind : null;
    if (data.snapshot && !watching) this.takeSnapshot(data.snapshot);
    else if (data.snapshot) this.learnWho(data.snapshot);
    if (data.live && !watching) this.watch(null);
    this.draw();
    this.keepUp();
  }

  setTheme(palette) {
    const probe = getComputedStyle(this.root).getPropertyValue("--st-background-color").trim() || "#ffffff";
    this.root.style.color = probe;
    const [r, g, b] = getComputedStyle(this.root).color.match(/[\d.]+/g).map(Number);
    this.root.style.color = "";
    this.theme = 0.2126 * r + 0.7152 * g + 0.0722 * b < 128 ? "dark" : "light";
    this.root.dataset.theme = this.theme;
    this.palette = palette;
    this.colors = palette.light.length;
  }

  color(slot) {
    return this.palette[this.theme][slot % this.colors];
  }

  watch(retry) {
    this.live = true;
    this.socket = new RunSocket(this, this.runId);
    this.socket.pending = retry;
    this.sawLive = false;
  }

  act(column) {
    if (column.running) {
      if (this.socket) this.socket.send({ stop: column.i });
    } else if (this.socket) {
      this.socket.send({ retry: column.i });
    } else {
      this.watch(column.i);
    }
    column.button.disabled = true; // until the next frame says what became of it
    setTimeout(() => (column.button.disabled = false), 1500);
  }

  cursors() {
    return [...this.columns.values()].map((column) => column.cursor);
  }

  // Frames are applied together, once per painted picture.
  frame(frame) {
    this.frames.push(frame);
    if (this.frames.length === 1) this.nextPaint(() => this.applyFrames());
  }

  nextPaint(work) {
    // A hidden tab paints nothing, yet its text must not pile up.
    if (document.hidden) setTimeout(work, 0);
    else requestAnimationFrame(work);
  }

  applyFrames() {
    const frames = this.frames;
    this.frames = [];
    for (const frame of frames) {
      if (frame.type === "snapshot") {
        this.sawLive ||= frame.live;
        this.trouble("");
        if (!this.takeSnapshot(frame) && this.socket) this.startOver();
      } else if (frame.type === "delta") {
        for (const delta of frame.cols) this.columns.get(delta.i)?.change(delta);
      } else if (frame.type === "trouble") this.trouble(frame.sentence);
      else if (frame.type === "notice") this.trouble(frame.sentence, true);
      else if (frame.type === "end") this.ended();
    }
    this.draw(true);
    this.keepUp();
  }

  // After all writing, so that the browser lays the page out once.
  keepUp() {
    for (const column of this.columns.values()) if (column.follow && column.running) column.scrollToEnd();
  }

  startOver() {
    for (const column of this.columns.values()) column.emptyTexts();
    this.socket.again();
  }

  learnWho(snapshot) {
    this.blind = Boolean(snapshot.blind);
    if (this.blind) return;
    for (const col of snapshot.columns) {
      const mine = this.columns.get(col.i)?.col;
      for (const name of mine ? WHO : []) mine[name] = col[name];
    }
  }

  takeSnapshot(snapshot) {
    const told = new Map([...this.columns].map(([i, column]) => [i, column.col]));
    this.blind = this.mayKnow === null ? Boolean(snapshot.blind) : !this.mayKnow;
    if (snapshot.live) this.live = true;
    let fits = true;
    for (const col of snapshot.columns) {
      if (!this.columns.has(col.i)) {
        const column = new Column(this, col.i);
        this.columns.set(col.i, column);
        this.grid.append(column.node);
      }
      // A blind run's socket carries no names; those the page gave stay.
      const known = snapshot.blind && !this.blind ? told.get(col.i) : null;
      const who = known ? Object.fromEntries(WHO.map((name) => [name, known[name]])) : {};
      fits = this.columns.get(col.i).take({ ...col, ...who }) && fits;
    }
    this.lay();
    return fits;
  }

  ended() {
    if (!this.socket) return;
    this.socket.close();
    this.socket = null;
    this.live = false;
    if (!this.refused) this.trouble("");
    const first = !this.fired;
    this.fired = true;
    // Once per time of being live: a page that is a moment behind must not be sent round in circles.
    if (first || this.sawLive) this.trigger("finished", this.runId);
  }

  // `refused`: an answer to what the reader did; it outlives the connection it came over.
  trouble(sentence, refused = false) {
    this.refused = refused;
    put(this.alert, sentence);
    this.alert.hidden = !sentence;
  }

  setTall(tall) {
    this.tall = tall;
    this.root.classList.toggle("tall", tall);
    this.tallButton.setAttribute("aria-pressed", String(tall));
  }

  // Rows of equal length: eight columns are two rows of four rather than slivers or a sideways scroll.
  lay() {
    const width = this.root.clientWidth;
    const n = this.columns.size || 1;
    const most = Math.max(1, Math.floor((width + 12) / (MIN_COLUMN_PX + 12)));
    const rows = Math.ceil(n / most);
    this.root.classList.toggle("phone", width < PHONE_PX);
    this.root.classList.toggle("rows", rows > 1);
    this.grid.style.setProperty("--cols", Math.ceil(n / rows));
  }

  draw(onlyDirty) {
    const columns = [...this.columns.values()].sort((a, b) => a.i - b.i);
    for (const column of columns) {
      if (!onlyDirty || column.dirty) column.draw();
      column.dirty = false;
    }
    this.race.draw(columns);
    this.drawHead(columns);
    const running = columns.some((column) => column.running);
    if (running && !this.ticking) this.tickSoon();
  }

  drawHead(columns) {
    const tally = new Map();
    for (const { col } of columns) {
      const words = (col.words || col.phase).split(/[,:]| after /)[0];
      tally.set(words, (tally.get(words) || 0) + 1);
    }
    const told = [...tally].map(([words, n]) => `${n} ${words}`).join(", ");
    put(this.summary, told);
    const spoken = columns.map((column) => `${column.title}: ${column.col.words}`).join(". ");
    if (this.spoken !== undefined && spoken !== this.spoken) put(this.said, spoken);
    this.spoken = spoken;
    this.root.classList.toggle("empty", !columns.length);
  }

  tickSoon() {
    this.ticking = true;
    setTimeout(() => {
      this.ticking = false;
      if (this.gone) return;
      const columns = [...this.columns.values()].filter((column) => column.running);
      if (!columns.length) return;
      if (!document.hidden) requestAnimationFrame(() => this.tick(columns));
      this.tickSoon();
    }, TICK_MS);
  }

  tick(columns) {
    for (const column of columns) column.tick();
    this.race.draw([...this.columns.values()].sort((a, b) => a.i - b.i));
  }

  remove() {
    this.gone = true;
    this.sizes.disconnect();
    if (this.socket) this.socket.close();
  }
}

const boards = new WeakMap();

export default function render({ parentElement, data, setTriggerValue }) {
  const root = parentElement.querySelector(".lab-board");
  if (!root || !data) return undefined;
  let board = boards.get(root);
  if (!board) {
    board = new Board(root);
    boards.set(root, board);
  }
  board.update(data, setTriggerValue);
  return () => {
    board.remove();
    boards.delete(root);
    root.replaceChildren();
  };
}
