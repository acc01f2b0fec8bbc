// The heat of an explanation, drawn over its picture.

const SIDE = 224; // pixels of the smooth map
const LARGEST = 1024; // pixels of the canvas's longer side
const STRONGEST = 0.85; // opacity of the hottest part
// Colours from the coolest to the hottest part.
const RAMP = [
  [255, 214, 74],
  [255, 140, 26],
  [226, 50, 30],
  [150, 0, 60],
];

// Draws on a canvas that lies over the picture with the same `object-fit`.
// `width` and `height` are the picture's, upright, as the browser shows it.
export function drawHeat(canvas, { heat, box }, width, height) {
  const scale = Math.min(1, LARGEST / Math.max(width, height));
  canvas.width = Math.max(1, Math.round(width * scale));
  canvas.height = Math.max(1, Math.round(height * scale));
  const [left, top, right, bottom] = [
    box[0] * canvas.width,
    box[1] * canvas.height,
    box[2] * canvas.width,
    box[3] * canvas.height,
  ];
  const context = canvas.getContext("2d");
  shadeUnseen(context, left, top, right, bottom);
  context.imageSmoothingQuality = "high";
  context.drawImage(smoothMap(heat), left, top, right - left, bottom - top);
}

// What the model does not see of the picture is darkened.
function shadeUnseen(context, left, top, right, bottom) {
  const { width, height } = context.canvas;
  context.fillStyle = "rgb(0 0 0 / 55%)";
  context.beginPath();
  context.rect(0, 0, width, height);
  context.rect(left, top, right - left, bottom - top);
  context.fill("evenodd");
}

function smoothMap(heat) {
  const map = document.createElement("canvas");
  map.width = map.height = SIDE;
  const context = map.getContext("2d");
  const image = context.createImageData(SIDE, SIDE);
  const values = resized(heat, SIDE, SIDE);
  values.forEach((value, at) => image.data.set(colour(value), at * 4));
  context.putImageData(image, 0, 0);
  return map;
}

function colour(value) {
  const place = value * (RAMP.length - 1);
  const from = Math.min(Math.floor(place), RAMP.length - 2);
  const share = place - from;
  const [red, green, blue] = RAMP[from].map((low, at) => low + share * (RAMP[from + 1][at] - low));
  return [red, green, blue, 255 * STRONGEST * value ** 0.8];
}

// A grid of values 0 to 1 -> width * height of them, by Catmull-Rom splines: smooth, and equal to
// the grid at the middle of each of its cells.
export function resized(grid, width, height) {
  const rows = grid.length;
  const columns = grid[0].length;
  const across = splines(columns, width);
  const down = splines(rows, height);
  const wide = grid.map((row) => across.map((spline) => mixed(spline, (at) => row[at])));
  const values = new Float32Array(width * height);
  for (let y = 0; y < height; y += 1) {
    for (let x = 0; x < width; x += 1) {
      const value = mixed(down[y], (at) => wide[at][x]);
      values[y * width + x] = Math.min(1, Math.max(0, value));
    }
  }
  return values;
}

const mixed = (spline, valueAt) =>
  spline.reduce((sum, { at, weight }) => sum + weight * valueAt(at), 0);

// For each of `count` places over `cells` cells: the four cells around it and their weights.
function splines(cells, count) {
  return Array.from({ length: count }, (_, place) => {
    const middle = ((place + 0.5) * cells) / count - 0.5;
    const first = Math.floor(middle);
    const t = middle - first;
    const weights = [
      (-t + 2 * t ** 2 - t ** 3) / 2,
      (2 - 5 * t ** 2 + 3 * t ** 3) / 2,
      (t + 4 * t ** 2 - 3 * t ** 3) / 2,
      (-(t ** 2) + t ** 3) / 2,
    ];
    return weights.map((weight, offset) => ({
      at: Math.min(cells - 1, Math.max(0, first - 1 + offset)),
      weight,
    }));
  });
}
