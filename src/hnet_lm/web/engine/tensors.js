// The tensors of a saved model, by name. Linear maps in 8-bit integers have one scale per row; they are floats once read.

import { Linear } from "./layers.js";

export class Tensors {
  // `entries` are { name: { dtype, shape, offset } }, offsets in bytes of `buffer`.
  constructor(entries, buffer, prefix = "") {
    this.entries = entries;
    this.buffer = buffer;
    this.prefix = prefix;
  }

  below(part) {
    return new Tensors(this.entries, this.buffer, `${this.prefix}${part}.`);
  }

  get(name) {
    const { dtype, shape, offset } = this.entry(name);
    const Kind = { int8: Int8Array, float32: Float32Array }[dtype];
    return new Kind(this.buffer, offset, shape.reduce((product, size) => product * size, 1));
  }

  linear(name) {
    const bias = this.has(`${name}.bias`) ? this.get(`${name}.bias`) : null;
    if (this.has(`${name}.weight`)) {
      const [numOut, numIn] = this.entry(`${name}.weight`).shape;
      return new Linear(this.get(`${name}.weight`), numOut, numIn, bias);
    }
    const [numOut, numIn] = this.entry(`${name}.numbers`).shape;
    const [numbers, scale] = [this.get(`${name}.numbers`), this.get(`${name}.scale`)];
    const weight = Float32Array.from(numbers, (number, i) => number * scale[Math.floor(i / numIn)]);
    return new Linear(weight, numOut, numIn, bias);
  }

  has(name) {
    return this.prefix + name in this.entries;
  }

  entry(name) {
    if (!this.has(name)) throw new Error(`the model has no ${this.prefix}${name}`);
    return this.entries[this.prefix + name];
  }
}
