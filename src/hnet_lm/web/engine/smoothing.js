// Smoothing and upsampling: z_t = P_t inner_t + (1 - P_t) z_{t-1} at each boundary, and every position takes the z of the
// chunk that it is in.

const MIN_PROB = 1e-4;

export class SmoothingState {
  constructor(z) {
    this.z = z;
  }

  // The first entries of the chunk's vector, blended with the chunks before it.
  blend(inner, prob) {
    const p = Math.min(1 - MIN_PROB, Math.max(MIN_PROB, prob));
    for (let i = 0; i < this.z.length; i++) this.z[i] = p * inner[i] + (1 - p) * this.z[i];
  }

  copy() {
    return new SmoothingState(this.z.slice());
  }
}
