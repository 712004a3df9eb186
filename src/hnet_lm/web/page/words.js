// Figures in words.

const COMPACT = new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 3 });

export const compact = (number) => COMPACT.format(number);
export const grouped = (number) => number.toLocaleString("en");
export const counted = (number, what) => `${grouped(number)} ${what}${number === 1 ? "" : "s"}`;
