// Mamba-2, one position at a time:
//
//   [z, x, B, C, dt] = W_in u        x, B, C = silu(conv(x, B, C))        dt = softplus(dt + dt_bias)
//   h_t = exp(dt_t A) h_{t-1} + dt_t B_t x_t^T,  y_t = C_t h_t + D x_t,  out = W_out rmsnorm(y * silu(z))

import { RMSNorm, silu, softplus } from "./layers.js";

const HEAD_DIM = 64;

export class Mamba2 {
  // `tensors` are those of this mixer.
  constructor(tensors, { d_state, d_conv }) {
    this.inProj = tensors.linear("in_proj");
    this.outProj = tensors.linear("out_proj");
    this.norm = new RMSNorm(tensors.get("norm.weight"));
    this.convWeight = tensors.get("conv.weight"); // channels x taps, the last tap is the newest
    this.convBias = tensors.get("conv.bias");
    this.dtBias = tensors.get("dt_bias");
    this.A = tensors.get("A_log").map((value) => -Math.exp(value));
    this.D = tensors.get("D");
    this.numState = d_state;
    this.taps = d_conv;
    this.numInner = this.outProj.numIn;
    this.numChannels = this.numInner + 2 * d_state;
    this.numHeads = this.numInner / HEAD_DIM;
  }

  newState() {
    return new Mamba2State(
      new Float32Array((this.taps - 1) * this.numChannels),
      new Float32Array(this.numHeads * this.numState * HEAD_DIM),
    );
  }

  forward(u, state) {
    const projected = this.inProj.forward(u);
    const gate = projected.subarray(0, this.numInner);
    const mixed = this.convolve(projected.subarray(this.numInner, this.numInner + this.numChannels), state.conv);
    const x = mixed.subarray(0, this.numInner);
    const B = mixed.subarray(this.numInner, this.numInner + this.numState);
    const C = mixed.subarray(this.numInner + this.numState);
    const y = new Float64Array(this.numInner);
    for (let head = 0; head < this.numHeads; head++) {
      const dt = softplus(projected[this.numInner + this.numChannels + head] + this.dtBias[head]);
      this.scan(head, dt, x, B, C, y, state.ssm);
    }
    for (let i = 0; i < y.length; i++) y[i] *= silu(gate[i]);
    return this.outProj.forward(this.norm.forward(y));
  }

  // silu of a depthwise causal convolution; `past` are the last taps - 1 inputs, the oldest first.
  convolve(input, past) {
    const { taps, numChannels, convWeight, convBias } = this;
    const out = new Float64Array(numChannels);
    for (let channel = 0; channel < numChannels; channel++) {
      let sum = convBias[channel] + convWeight[channel * taps + taps - 1] * input[channel];
      for (let tap = 0; tap < taps - 1; tap++) sum += convWeight[channel * taps + tap] * past[tap * numChannels + channel];
      out[channel] = silu(sum);
    }
    if (taps > 1) {
      past.copyWithin(0, numChannels);
      past.set(input, (taps - 2) * numChannels);
    }
    return out;
  }

  // One head of the recurrence; its state is numState rows of HEAD_DIM.
  scan(head, dt, x, B, C, y, ssm) {
    const decay = Math.exp(dt * this.A[head]);
    const first = head * HEAD_DIM;
    const skip = this.D[head];
    for (let p = first; p < first + HEAD_DIM; p++) y[p] = skip * x[p];
    let at = head * this.numState * HEAD_DIM;
    for (let n = 0; n < this.numState; n++) {
      const [input, output] = [dt * B[n], C[n]];
      for (let p = first; p < first + HEAD_DIM; p++, at++) {
        const value = decay * ssm[at] + input * x[p];
        ssm[at] = value;
        y[p] += output * value;
      }
    }
  }
}

class Mamba2State {
  constructor(conv, ssm) {
    this.conv = conv;
    this.ssm = ssm;
  }

  copy() {
    return new Mamba2State(this.conv.slice(), this.ssm.slice());
  }
}
