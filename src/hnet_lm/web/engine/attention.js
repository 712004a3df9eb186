// Causal multi-head self-attention with rotary positions, global or in a sliding window, one position at a time:
//
//   y = W_o softmax(rot(q) rot(k)^T / sqrt(p)) v,  [q, k, v] = W_qkv x

const ROTARY_BASE = 10_000;

export class Attention {
  constructor(tensors, { num_heads, rotary_emb_dim, window_size }) {
    this.qkvProj = tensors.linear("qkv_proj");
    this.outProj = tensors.linear("out_proj");
    this.numHeads = num_heads;
    this.width = this.outProj.numIn;
    this.headDim = this.width / num_heads;
    this.window = window_size;
    this.frequencies = Float64Array.from({ length: rotary_emb_dim / 2 }, (_, i) =>
      ROTARY_BASE ** ((-2 * i) / rotary_emb_dim),
    );
  }

  newState() {
    return new KeysAndValues(new Rows(2 * this.width), 0);
  }

  forward(x, state) {
    const { width, headDim, numHeads } = this;
    const qkv = this.qkvProj.forward(x);
    const position = state.length;
    for (let head = 0; head < 2 * numHeads; head++) this.rotate(qkv, head * headDim, position); // of q and of k
    state.append(qkv.subarray(width));
    const first = this.window < 0 ? 0 : Math.max(0, position - this.window);
    const seen = state.rows.data;
    const y = new Float64Array(width);
    const weights = new Float64Array(position + 1 - first);
    for (let head = 0; head < numHeads; head++) {
      const offset = head * headDim;
      this.weigh(qkv, offset, seen, first, weights);
      for (let t = 0; t < weights.length; t++) {
        const value = (first + t) * 2 * width + width + offset;
        for (let p = 0; p < headDim; p++) y[offset + p] += weights[t] * seen[value + p];
      }
    }
    return this.outProj.forward(y);
  }

  rotate(vector, offset, position) {
    const half = this.frequencies.length;
    for (let i = 0; i < half; i++) {
      const angle = position * this.frequencies[i];
      const [cos, sin] = [Math.cos(angle), Math.sin(angle)];
      const [a, b] = [vector[offset + i], vector[offset + half + i]];
      vector[offset + i] = a * cos - b * sin;
      vector[offset + half + i] = a * sin + b * cos;
    }
  }

  // softmax of the scores of one head's query with the keys from `first` on
  weigh(qkv, offset, seen, first, weights) {
    const scale = 1 / Math.sqrt(this.headDim);
    let greatest = -Infinity;
    for (let t = 0; t < weights.length; t++) {
      const key = (first + t) * 2 * this.width + offset;
      let sum = 0;
      for (let p = 0; p < this.headDim; p++) sum += qkv[offset + p] * seen[key + p];
      weights[t] = sum * scale;
      greatest = Math.max(greatest, weights[t]);
    }
    let total = 0;
    for (let t = 0; t < weights.length; t++) total += weights[t] = Math.exp(weights[t] - greatest);
    for (let t = 0; t < weights.length; t++) weights[t] /= total;
  }
}

// Rows in an array that grows. Copies of a state share it, each with a length of its own: a row that is written again
// after an earlier copy was taken up is another text's, and the copies that reached further are given up (session.js).
class Rows {
  constructor(width) {
    this.width = width;
    this.data = new Float32Array(64 * width);
  }

  set(index, row) {
    if ((index + 1) * this.width > this.data.length) {
      const larger = new Float32Array(2 * this.data.length);
      larger.set(this.data);
      this.data = larger;
    }
    this.data.set(row, index * this.width);
  }
}

class KeysAndValues {
  constructor(rows, length) {
    this.rows = rows;
    this.length = length;
  }

  append(row) {
    this.rows.set(this.length++, row);
  }

  copy() {
    return new KeysAndValues(this.rows, this.length);
  }
}
