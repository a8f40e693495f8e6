// What a figure means, beside it: on hover, on a tap, and with the arrow keys.

class Tooltip {
  constructor(root) {
    this.root = root;
    this.node = el("div", "tooltip");
    this.node.setAttribute("role", "tooltip");
    this.node.setAttribute("aria-live", "polite");
    this.node.hidden = true;
    root.append(this.node);
  }

  show(cell, title, lines) {
    this.node.replaceChildren(el("b", "", title), ...lines.map((line) => el("p", "", line)));
    this.node.hidden = false;
    const [area, at] = [this.root.getBoundingClientRect(), cell.getBoundingClientRect()];
    const left = Math.min(at.left - area.left, area.width - this.node.offsetWidth);
    this.node.style.left = `${Math.max(0, left)}px`;
    this.node.style.top = `${at.bottom - area.top + 4}px`;
  }

  hide() {
    this.node.hidden = true;
  }
}
