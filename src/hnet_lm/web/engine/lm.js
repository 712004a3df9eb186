// The language model, one byte at a time: embedding, network, logits over the next byte.

import { HNet, buildNetwork } from "./hnet.js";
import { Linear } from "./layers.js";
import { Tensors } from "./tensors.js";

export class Model {
  // `manifest` says of the tensors in `buffer` which they are, and how the parts of the model are put together.
  constructor(manifest, buffer) {
    const tensors = new Tensors(manifest.tensors, buffer);
    const { architecture } = manifest;
    this.vocabSize = architecture.vocab_size;
    this.bos = architecture.bos_id;
    this.eos = architecture.eos_id;
    this.numStages = architecture.stages.length - 1;
    this.width = architecture.stages[0].d_model;
    this.embedding = tensors.get("embedding.weight");
    this.network = buildNetwork(tensors.below("network"), architecture);
    this.head = architecture.tie_embeddings
      ? new Linear(this.embedding, this.vocabSize, this.width)
      : tensors.linear("lm_head");
  }

  newState() {
    return this.network.newState();
  }

  // { logits, probs, starts }: of the next byte, and of each stage that the byte reaches.
  step(byte, state) {
    const [probs, starts] = [[], []];
    const hidden = this.network.forward(this.embed(byte), state, probs, starts);
    return { logits: this.head.forward(hidden), probs, starts };
  }

  // { probs, starts } alone, for a state that only ever encodes.
  encode(byte, state) {
    const [probs, starts] = [[], []];
    if (this.network instanceof HNet) this.network.encode(this.embed(byte), state, probs, starts);
    return { logits: null, probs, starts };
  }

  embed(byte) {
    return Float64Array.from(this.embedding.subarray(byte * this.width, (byte + 1) * this.width));
  }
}
