// A stage that chunks, one position at a time: the main network takes a step where a chunk starts, and only there.

import { Isotropic, States } from "./isotropic.js";
import { add } from "./layers.js";
import { RoutingModule } from "./routing.js";
import { SmoothingState } from "./smoothing.js";

export function buildNetwork(tensors, architecture, stage = 0) {
  const { stages, mamba2 } = architecture;
  const { main_network } = stages[stage];
  return main_network
    ? new Isotropic(tensors, main_network, stages[stage], mamba2)
    : new HNet(tensors, architecture, stage);
}

export class HNet {
  constructor(tensors, architecture, stage) {
    const { stages, mamba2 } = architecture;
    const { d_model, encoder, decoder, threshold } = stages[stage];
    this.width = d_model;
    this.innerWidth = stages[stage + 1].d_model;
    this.encoder = new Isotropic(tensors.below("encoder"), encoder, stages[stage], mamba2);
    this.routing = new RoutingModule(tensors.below("routing"), threshold);
    this.padVector = this.innerWidth > d_model ? tensors.get("widen.pad_vector") : [];
    this.mainNetwork = buildNetwork(tensors.below("main_network"), architecture, stage + 1);
    this.residualProj = tensors.linear("residual_proj");
    this.decoder = new Isotropic(tensors.below("decoder"), decoder, stages[stage], mamba2);
  }

  newState() {
    const parts = [this.encoder, this.routing, this.mainNetwork].map((part) => part.newState());
    return new States([...parts, new SmoothingState(new Float64Array(this.width)), this.decoder.newState()]);
  }

  // The output of a position. The probabilities of the stages that it reaches are appended to `probs`, outermost first,
  // and so are the decisions to `starts`.
  forward(x, state, probs, starts) {
    const [encoder, routing, mainNetwork, smoothing, decoder] = state.parts;
    const xHat = this.encoder.forward(x, encoder);
    const { prob, isBoundary } = this.routing.forward(xHat, routing);
    probs.push(prob);
    starts.push(isBoundary);
    if (isBoundary) smoothing.blend(this.mainNetwork.forward(this.widened(xHat), mainNetwork, probs, starts), prob);
    const y = this.residualProj.forward(xHat);
    add(y, smoothing.z);
    return this.decoder.forward(y, decoder);
  }

  // The decisions alone: nothing behind the encoders decides about a boundary.
  encode(x, state, probs, starts) {
    const [encoder, routing, mainNetwork] = state.parts;
    const xHat = this.encoder.forward(x, encoder);
    const { prob, isBoundary } = this.routing.forward(xHat, routing);
    probs.push(prob);
    starts.push(isBoundary);
    if (isBoundary && this.mainNetwork instanceof HNet) {
      this.mainNetwork.encode(this.widened(xHat), mainNetwork, probs, starts);
    }
  }

  widened(x) {
    const wide = new Float64Array(this.innerWidth);
    wide.set(x);
    wide.set(this.padVector, this.width);
    return wide;
  }
}
