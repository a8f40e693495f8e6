// Text that only grows. Model output is hostile: it is only ever the data of a Text node.

const BLOCK_CHARS = 3000;

class GrowingText {
  constructor(className) {
    this.node = el("div", className);
    this.clear();
  }

  clear() {
    this.node.replaceChildren();
    this.length = 0; // UTF-16 units, to cut cheaply
    this.points = 0; // code points, what cursors count
    this.last = null;
  }

  get text() {
    return this.node.textContent;
  }

  append(text) {
    if (!text) return;
    this.length += text.length;
    this.points += codePoints(text);
    // A new block now and then keeps the browser from laying out a long answer again for each word.
    if (this.last && this.last.length > BLOCK_CHARS) {
      const cut = text.indexOf("\n");
      if (cut >= 0) {
        this.last.appendData(text.slice(0, cut + 1));
        text = text.slice(cut + 1);
        this.last = null;
        if (!text) return;
      }
    }
    if (!this.last) {
      const block = el("div");
      this.last = document.createTextNode("");
      block.appendChild(this.last);
      this.node.appendChild(block);
    }
    this.last.appendData(text);
  }

  // Make the text `kept characters + tail`, touching nothing that is already there.
  // False when what is here does not reach to where the tail starts.
  resume(from, tail) {
    if (from === this.points) {
      this.append(tail);
      return true;
    }
    if (from !== 0) return false;
    const mine = this.text;
    if (tail.startsWith(mine)) {
      this.append(tail.slice(mine.length));
    } else {
      this.clear();
      this.append(tail);
    }
    return true;
  }
}
