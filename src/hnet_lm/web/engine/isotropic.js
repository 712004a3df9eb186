// A stack of blocks of one width, x + mixer(norm(x)) and, where a block has one, x + mlp(norm(x)); then an RMS norm.

import { Attention } from "./attention.js";
import { GatedMLP, RMSNorm, add } from "./layers.js";
import { Mamba2 } from "./mamba2.js";

export class Isotropic {
  // `blocks` are { mixer, has_mlp }, outermost stage's settings in `stage`.
  constructor(tensors, blocks, stage, mamba2) {
    this.blocks = blocks.map((block, i) => new Block(tensors.below(`blocks.${i}`), block, stage, mamba2));
    this.norm = new RMSNorm(tensors.get("norm.weight"));
  }

  newState() {
    return new States(this.blocks.map((block) => block.mixer.newState()));
  }

  forward(x, state) {
    const residual = Float64Array.from(x);
    this.blocks.forEach((block, i) => block.forward(residual, state.parts[i]));
    return this.norm.forward(residual);
  }
}

class Block {
  constructor(tensors, { mixer, has_mlp }, stage, mamba2) {
    this.mixerNorm = new RMSNorm(tensors.get("mixer_norm.weight"));
    const within = tensors.below("mixer");
    this.mixer = mixer === "mamba2" ? new Mamba2(within, mamba2) : new Attention(within, stage);
    if (has_mlp) {
      this.mlpNorm = new RMSNorm(tensors.get("mlp_norm.weight"));
      this.mlp = new GatedMLP(tensors.linear("mlp.fc1"), tensors.linear("mlp.fc2"));
    }
  }

  forward(x, state) {
    add(x, this.mixer.forward(this.mixerNorm.forward(x), state));
    if (this.mlp) add(x, this.mlp.forward(this.mlpNorm.forward(x)));
  }
}

// The states of several parts, copied together.
export class States {
  constructor(parts) {
    this.parts = parts;
  }

  copy() {
    return new States(this.parts.map((part) => part.copy()));
  }
}
