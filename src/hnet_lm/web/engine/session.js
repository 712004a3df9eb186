// A text that has been read, with copies of the state at places in it, so that a text that begins alike is read from
// there on: a key press at the end costs one step.

const EVERY = 256; // bytes between two copies
const MOST_ENDS = 8; // copies behind whole texts, of which people type and delete the last letters

export class Session {
  // `step(id, state)` gives { logits, probs, starts }.
  constructor(model, step) {
    this.model = model;
    this.step = step;
    this.restart();
  }

  restart() {
    this.bytes = []; // behind BOS
    this.results = []; // { probs, starts } of BOS, then of each byte
    this.copies = []; // { length, state, logits, isEnd }, by length; `length` counts bytes, BOS not included
    this.state = this.model.newState();
    const first = this.step(this.model.bos, this.state);
    this.results.push(first);
    this.logits = first.logits;
    this.keep(true);
  }

  // Be where `bytes` has been read as far as copies go; the rest is for `read`. Returns how many are read.
  begin(bytes) {
    let same = 0;
    while (same < bytes.length && same < this.bytes.length && bytes[same] === this.bytes[same]) same++;
    if (same < this.bytes.length) {
      while (this.copies.at(-1).length > same) this.copies.pop();
      const { length, state, logits } = this.copies.at(-1);
      this.state = state.copy();
      this.logits = logits;
      this.bytes.length = length;
      this.results.length = length + 1;
    }
    return this.bytes.length;
  }

  read(byte) {
    const { logits, probs, starts } = this.step(byte, this.state);
    this.bytes.push(byte);
    this.results.push({ probs, starts });
    this.logits = logits;
    if (this.bytes.length % EVERY === 0) this.keep(false);
    return { probs, starts };
  }

  // Keep a copy of where we are.
  keep(isEnd) {
    if (this.copies.at(-1)?.length === this.bytes.length) return;
    this.copies.push({ length: this.bytes.length, state: this.state.copy(), logits: this.logits, isEnd });
    const ends = this.copies.filter((copy) => copy.isEnd && copy.length > 0 && copy.length % EVERY !== 0);
    if (ends.length > MOST_ENDS) this.copies.splice(this.copies.indexOf(ends[0]), 1);
  }
}
