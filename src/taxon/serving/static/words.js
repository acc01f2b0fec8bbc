// How figures and classes are written.

export function percent(share) {
  const value = share * 100;
  if (value > 0 && value < 0.1) return "<0.1 %";
  if (value > 99.9 && value < 100) return ">99.9 %";
  return `${value.toFixed(1)} %`;
}

export const milliseconds = (value) => `${value < 10 ? value.toFixed(1) : Math.round(value)} ms`;

export const mebibytes = (bytes) => `${(bytes / 2 ** 20).toFixed(1)} MiB`;

export const counted = (count, one, many) =>
  `${count.toLocaleString("en")} ${count === 1 ? one : many}`;

export const capitalised = (text) => text.charAt(0).toUpperCase() + text.slice(1);

export function median(values) {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

// A taxonomy's class is a full path; a person reads its last part.
export const leaf = (name) => name.split("/").pop();

// Returns a function from a class to what is shown of it: last parts that several classes have
// are shown with their parent.
export function classNames(model) {
  if (!model.is_taxonomy) return (name) => name;
  const seen = new Set();
  const shared = new Set();
  for (const last of model.classes.map(leaf)) (seen.has(last) ? shared : seen).add(last);
  return (name) => (shared.has(leaf(name)) ? name.split("/").slice(-2).join(" › ") : leaf(name));
}
