// The session as a CSV file for a spreadsheet (RFC 4180).

const COLUMNS = [
  "file",
  "model",
  "version",
  "label",
  "confidence",
  "unsure",
  "out_of_scope",
  "labels",
  "prediction_set",
  "taxonomy",
  "server_ms",
  "total_ms",
  "error",
];

// rows: [{ name, answer }]; classes: those whose probabilities get a column each.
export function csvOf(rows, classes) {
  const head = [...COLUMNS, ...classes.map((name) => `probability ${name}`)];
  const lines = [head, ...rows.map((row) => cells(row, classes))];
  return lines.map((line) => line.map(quoted).join(",")).join("\r\n") + "\r\n";
}

function cells({ name, answer }, classes) {
  const { result, model } = answer;
  if (answer.state !== "done") {
    return [
      name,
      ...Array(COLUMNS.length - 2).fill(""),
      answer.error ?? "",
      ...classes.map(() => ""),
    ];
  }
  const probability = new Map(result.top.map((scored) => [scored.label, scored.probability]));
  return [
    name,
    model.name,
    model.version,
    result.label ?? "",
    result.confidence ?? "",
    result.unsure,
    result.out_of_scope,
    result.labels.join("|"),
    (result.prediction_set ?? []).join("|"),
    result.taxonomy.at(-1) ?? "",
    answer.serverMs ?? "",
    answer.totalMs.toFixed(1),
    "",
    ...classes.map((each) => probability.get(each) ?? ""),
  ];
}

// A spreadsheet takes a text that begins with one of these signs for a formula, and runs it: an
// apostrophe in front makes it text. Numbers are written as they are.
function quoted(value) {
  if (typeof value !== "string") return String(value);
  const safe = /^[\s]*[=+\-@]|^[\t\r\n]/.test(value) ? `'${value}` : value;
  return /[",\r\n;']/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}

export function download(text, name) {
  // The mark in front has Excel read it as UTF-8.
  const address = URL.createObjectURL(
    new Blob(["\ufeff", text], { type: "text/csv;charset=utf-8" }),
  );
  const link = document.createElement("a");
  link.href = address;
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(address), 10_000);
}
