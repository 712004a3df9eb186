// Where the chunks of every stage start, and with what probability: from a whole answer, or as a stream tells it.

export class Chunking {
  // stages[s]: `probs` the boundary probability at each byte (undefined where the stage has no position), `starts`
  // whether a chunk starts at the byte, `ids` the chunk of the byte. `numBytes` have been decided.
  constructor(numStages) {
    this.stages = Array.from({ length: numStages }, () => ({ probs: [], starts: [], ids: [] }));
    this.numBytes = 0;
  }

  static fromAnswer({ num_bytes, stages }) {
    const chunking = new Chunking(stages.length);
    chunking.numBytes = num_bytes;
    stages.forEach(({ offsets, boundary_prob, starts }, s) => {
      const stage = chunking.stages[s];
      stage.probs = Array(num_bytes).fill(undefined);
      stage.starts = Array(num_bytes).fill(false);
      offsets.forEach((byte, i) => (stage.probs[byte] = boundary_prob[i]));
      starts.forEach((byte) => (stage.starts[byte] = true));
      let id = -1;
      stage.ids = stage.starts.map((isStart) => (id += isStart));
    });
    return chunking;
  }

  // { probs, depth } of the next bytes, in order: probabilities from the outermost stage on, and in how many a chunk starts.
  append(boundaries) {
    for (const { probs, depth } of boundaries) {
      this.stages.forEach((stage, s) => {
        const isStart = s < depth || this.numBytes === 0;
        stage.probs.push(probs[s]);
        stage.starts.push(isStart);
        stage.ids.push((stage.ids.at(-1) ?? -1) + isStart);
      });
      this.numBytes++;
    }
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
}
