// Where the chunks of every stage start, and with what probability: from a whole answer, or as a stream tells it.

export class Chunking {
  // stages[s]: `probs` the boundary probability at each byte (NaN where the stage has no position), `starts` whether a
  // chunk starts at the byte, `ids` the chunk of the byte. `numBytes` have been decided.
  constructor(numStages) {
    this.stages = Array.from({ length: numStages }, () => ({ probs: [], starts: [], ids: [] }));
    this.numBytes = 0;
  }

  static fromAnswer({ num_bytes, stages }) {
    const chunking = new Chunking(0);
    chunking.numBytes = num_bytes;
    chunking.stages = stages.map(({ offsets, boundary_prob, starts: given }) => {
      const probs = new Float32Array(num_bytes).fill(NaN);
      const starts = new Uint8Array(num_bytes);
      const ids = new Int32Array(num_bytes);
      for (let i = 0; i < offsets.length; i++) probs[offsets[i]] = boundary_prob[i];
      for (let i = 0; i < given.length; i++) starts[given[i]] = 1;
      for (let byte = 0, id = -1; byte < num_bytes; byte++) ids[byte] = id += starts[byte];
      return { probs, starts, ids };
    });
    return chunking;
  }

  // { probs, depth } of the next bytes, in order: probabilities from the outermost stage on, and in how many a chunk starts.
  append(boundaries) {
    for (const { probs, depth } of boundaries) {
      this.stages.forEach((stage, s) => {
        const isStart = s < depth || this.numBytes === 0;
        stage.probs.push(probs[s] ?? NaN);
        stage.starts.push(isStart);
        stage.ids.push((stage.ids.at(-1) ?? -1) + isStart);
      });
      this.numBytes++;
    }
  }

  // Whether the bytes in [from, to) look as they do in another chunking when its first `numBytes` are decided.
  looksLike(other, numBytes, from, to) {
    const end = Math.min(this.numBytes, to);
    if (end !== Math.min(numBytes, to) || this.stages.length !== other.stages.length) return false;
    if (this === other) return true; // which only grows
    return this.stages.every(({ probs, starts, ids }, s) => {
      const { probs: otherProbs, starts: otherStarts, ids: otherIds } = other.stages[s];
      for (let i = from; i < end; i++) {
        if (!Object.is(probs[i], otherProbs[i]) || +starts[i] !== +otherStarts[i] || ids[i] !== otherIds[i]) return false;
      }
      return true;
    });
  }

  numChunks(stage) {
    return (this.stages[stage].ids.at(-1) ?? -1) + 1;
  }

  // The first byte of the chunk that holds `byte`, and the first behind it.
  bounds(stage, byte) {
    const { starts } = this.stages[stage];
    let begin = byte;
    while (begin > 0 && !starts[begin]) begin--;
    let end = byte + 1;
    while (end < this.numBytes && !starts[end]) end++;
    return [begin, end];
  }

  // Bytes of each chunk.
  lengths(stage) {
    const { starts } = this.stages[stage];
    const found = [];
    for (let byte = 0, begin = 0; byte < this.numBytes; byte++) {
      if (byte + 1 === this.numBytes || starts[byte + 1]) {
        found.push(byte + 1 - begin);
        begin = byte + 1;
      }
    }
    return found;
  }
}
