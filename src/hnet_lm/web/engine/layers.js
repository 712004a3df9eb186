// The small layers, of one position: linear maps, RMS norm, gated MLP. Vectors are in float64, weights in float32.

const EPS = 1e-5;

// y = W x + b, with W of `numOut` rows.
export class Linear {
  constructor(weight, numOut, numIn, bias = null) {
    this.weight = weight;
    this.numOut = numOut;
    this.numIn = numIn;
    this.bias = bias;
  }

  forward(x) {
    const y = new Float64Array(this.numOut);
    multiply(this.weight, x, y, this.numOut, this.numIn);
    if (this.bias) for (let i = 0; i < y.length; i++) y[i] += this.bias[i];
    return y;
  }
}

// Four rows at a time, so that each entry of x is read once for all of them.
function multiply(weight, x, y, numOut, numIn) {
  let i = 0;
  for (; i + 3 < numOut; i += 4) {
    const row0 = i * numIn;
    const row1 = row0 + numIn;
    const row2 = row1 + numIn;
    const row3 = row2 + numIn;
    let [a, b, c, d] = [0, 0, 0, 0];
    for (let j = 0; j < numIn; j++) {
      const v = x[j];
      a += weight[row0 + j] * v;
      b += weight[row1 + j] * v;
      c += weight[row2 + j] * v;
      d += weight[row3 + j] * v;
    }
    y[i] = a;
    y[i + 1] = b;
    y[i + 2] = c;
    y[i + 3] = d;
  }
  for (; i < numOut; i++) {
    let sum = 0;
    for (let j = 0, row = i * numIn; j < numIn; j++) sum += weight[row + j] * x[j];
    y[i] = sum;
  }
}

// v / sqrt(mean(v^2) + eps) * weight
export class RMSNorm {
  constructor(weight) {
    this.weight = weight;
  }

  forward(x) {
    let sum = 0;
    for (let i = 0; i < x.length; i++) sum += x[i] * x[i];
    const scale = 1 / Math.sqrt(sum / x.length + EPS);
    return x.map((value, i) => value * scale * this.weight[i]);
  }
}

// fc1 gives [y, gate]; fc2(silu(gate) * y)
export class GatedMLP {
  constructor(fc1, fc2) {
    this.fc1 = fc1;
    this.fc2 = fc2;
  }

  forward(x) {
    const both = this.fc1.forward(x);
    const width = both.length / 2;
    const y = new Float64Array(width);
    for (let i = 0; i < width; i++) y[i] = both[i] * silu(both[width + i]);
    return this.fc2.forward(y);
  }
}

export const sigmoid = (x) => 1 / (1 + Math.exp(-x));
export const silu = (x) => x / (1 + Math.exp(-x));
export const softplus = (x) => (x > 20 ? x : Math.log1p(Math.exp(x)));

export function add(x, y) {
  for (let i = 0; i < x.length; i++) x[i] += y[i];
}
