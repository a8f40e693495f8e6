// The WebSocket of one run: opens with what is already here, reconnects with backoff, ends once.

const BACKOFF_MS = [250, 500, 1000, 2000, 4000];
const SILENCE_MS = 15000; // the engine pings every 5 s

class RunSocket {
  constructor(board, runId) {
    this.board = board;
    this.runId = runId;
    this.failures = 0;
    this.pending = null; // a retry to send with the first message
    this.over = false;
    this.open();
  }

  open() {
    clearTimeout(this.timer);
    const scheme = location.protocol === "https:" ? "wss:" : "ws:";
    const ws = (this.ws = new WebSocket(`${scheme}//${location.host}${this.board.base}/api/board/${encodeURIComponent(this.runId)}`));
    ws.onopen = () => {
      const hello = { token: this.board.token, have: this.board.cursors() };
      if (this.pending !== null) hello.retry = this.pending;
      this.pending = null;
      ws.send(JSON.stringify(hello));
      this.heard();
    };
    ws.onmessage = (event) => {
      this.failures = 0;
      this.heard();
      this.board.frame(JSON.parse(event.data));
    };
    ws.onclose = (event) => ws === this.ws && this.closed(event.code);
  }

  heard() {
    clearTimeout(this.silence);
    this.silence = setTimeout(() => this.again(), SILENCE_MS);
  }

  // Drop the connection and come back, keeping every character.
  again() {
    const old = this.ws;
    this.ws = null;
    old.onclose = old.onmessage = null;
    old.close();
    this.closed(0);
  }

  closed(code) {
    clearTimeout(this.silence);
    if (this.over) return;
    if (code === 4429) {
      this.board.trouble("Too many boards are open. Close some tabs and reload this page; everything that arrived is kept.");
      return;
    }
    if (code === 4401) {
      this.board.trouble("This page may no longer watch the run. Reload it; everything that arrived is kept.");
      return;
    }
    const wait = BACKOFF_MS[Math.min(this.failures, BACKOFF_MS.length - 1)] * (0.75 + Math.random() / 2);
    this.failures += 1;
    if (this.failures > 2) this.board.trouble("The connection to the server is lost. What has arrived is kept; trying again.");
    this.timer = setTimeout(() => this.open(), wait);
  }

  get ready() {
    return this.ws && this.ws.readyState === WebSocket.OPEN;
  }

  send(message) {
    if (this.ready) this.ws.send(JSON.stringify(message));
    return this.ready;
  }

  close() {
    this.over = true;
    clearTimeout(this.timer);
    clearTimeout(this.silence);
    if (this.ws) this.ws.close(1000);
  }
}
