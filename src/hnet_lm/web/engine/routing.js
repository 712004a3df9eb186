// The routing module: q_t = W_q x_{t-1}, k_t = W_k x_t, p_t = (1 - cos(q_t, k_t)) / 2; the first position has p = 1.

const EPS = 1e-8;

export class RoutingModule {
  constructor(tensors, threshold) {
    this.qProj = tensors.linear("q_proj");
    this.kProj = tensors.linear("k_proj");
    this.threshold = threshold;
  }

  newState() {
    return new RoutingState(null);
  }

  // { prob, isBoundary } of a position
  forward(x, state) {
    const [q, k] = [this.qProj.forward(x), this.kProj.forward(x)];
    const prob = state.lastQ ? Math.min(1, Math.max(0, (1 - cosine(state.lastQ, k)) / 2)) : 1;
    state.lastQ = q;
    return { prob, isBoundary: prob > this.threshold };
  }
}

function cosine(a, b) {
  let [product, squareA, squareB] = [0, 0, 0];
  for (let i = 0; i < a.length; i++) {
    product += a[i] * b[i];
    squareA += a[i] * a[i];
    squareB += b[i] * b[i];
  }
  return product / (Math.max(Math.sqrt(squareA), EPS) * Math.max(Math.sqrt(squareB), EPS));
}

class RoutingState {
  constructor(lastQ) {
    this.lastQ = lastQ;
  }

  copy() {
    return new RoutingState(this.lastQ); // which is replaced, never changed
  }
}
