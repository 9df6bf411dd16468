// Charts as SVG, each with a table behind it for those who do not see it. Colour is never the only difference:
// series have their own dash or shape too.
import { h, s } from './dom.js';
import { t } from './words.js';

const LEFT = 56, RIGHT = 12, TOP = 26, BOTTOM = 44, HEIGHT = 240;

export const chartWidth = () => Math.max(280, Math.min(680, document.documentElement.clientWidth - 64));

function ticks(low, high, count) {
  const rough = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((m) => m * power).find((one) => one >= rough) || 10 * power;
  const found = [];
  for (let value = Math.ceil(low / step) * step; value <= high + step * 1e-6; value += step) found.push(value);
  return found;
}

function bounds(values, fromZero) {
  const finite = values.filter(Number.isFinite);
  let low = fromZero ? Math.min(0, ...finite) : Math.min(...finite);
  let high = Math.max(...finite);
  if (!finite.length) [low, high] = [0, 1];
  const pad = fromZero ? Math.abs(high) * 0.1 || 1 : 30; // one value alone: without a zero it is a time in seconds
  return high - low < 1e-12 ? [fromZero ? low : low - pad, high + pad] : [low, high];
}

/* {title, x: {label, text, time?}, y: {label, text}, series: [{name, kind: 'line' | 'dots', points: [[x, y, label?]]}], marks} */
export function chart({ title, x, y, series, marks = [], fromZero = true, xFromZero = false, height = HEIGHT }) {
  const width = chartWidth();
  const all = series.flatMap((one) => one.points).filter(([a, b]) => Number.isFinite(a) && Number.isFinite(b));
  const table = chartTable(title, x, y, series);
  if (!all.length) return h('figure', { class: 'chart' }, h('figcaption', {}, title), h('p', { class: 'quiet' }, t('chart.empty')));
  const [left, right] = bounds(all.map(([a]) => a), xFromZero);
  const [low, high] = bounds(all.map(([, b]) => b), fromZero);
  const px = (value) => LEFT + ((value - left) / (right - left)) * (width - LEFT - RIGHT);
  const py = (value) => height - BOTTOM - ((value - low) / (high - low)) * (height - TOP - BOTTOM);
  const grid = [
    ...ticks(low, high, 4).map((value) => [
      s('line', { class: 'grid', x1: LEFT, x2: width - RIGHT, y1: py(value), y2: py(value) }),
      s('text', { x: LEFT - 6, y: py(value) + 4, 'text-anchor': 'end' }, y.text(value)),
    ]),
    ...ticks(left, right, width < 420 ? 3 : 5).map((value) =>
      s('text', { x: Math.min(Math.max(px(value), LEFT + 8), width - 28), y: height - BOTTOM + 16, 'text-anchor': 'middle' }, x.text(value))),
    s('text', { class: 'axis', x: (LEFT + width - RIGHT) / 2, y: height - 8, 'text-anchor': 'middle' }, x.label),
    s('text', { class: 'axis', transform: `translate(12 ${(height - BOTTOM) / 2 + 6}) rotate(-90)`, 'text-anchor': 'middle' }, y.label),
  ];
  const drawn = series.map((one, at) => (one.kind === 'dots' ? dots(one, at, px, py, width) : line(one, at, px, py)));
  const flags = marks.filter(([at]) => at >= left && at <= right).map(([at, label]) => [
    s('line', { class: 'mark', x1: px(at), x2: px(at), y1: TOP, y2: height - BOTTOM }, s('title', {}, label)),
  ]);
  return h('figure', { class: 'chart' },
    h('figcaption', {}, title),
    s('svg', { role: 'img', 'aria-label': title, viewBox: `0 0 ${width} ${height}`, width, height }, grid, flags, drawn),
    legend(series), table);
}

const shapes = [
  (cx, cy) => s('circle', { cx, cy, r: 5 }),
  (cx, cy) => s('rect', { x: cx - 5, y: cy - 5, width: 10, height: 10 }),
  (cx, cy) => s('path', { d: `M${cx} ${cy - 6}l6 11h-12z` }),
  (cx, cy) => s('path', { d: `M${cx} ${cy - 7}l6 7-6 7-6-7z` }),
];

function line({ points }, at, px, py) {
  if (points.length === 1) return s('g', { class: `dot c${at}` }, s('circle', { cx: px(points[0][0]), cy: py(points[0][1]), r: 4 }));
  const d = points.filter(([a, b]) => Number.isFinite(a) && Number.isFinite(b)).map(([a, b], i) => `${i ? 'L' : 'M'}${px(a).toFixed(1)} ${py(b).toFixed(1)}`).join('');
  return s('path', { class: `line c${at}`, d });
}

function dots({ points }, at, px, py, width) {
  const placed = [];
  return points.filter(([a, b]) => Number.isFinite(a) && Number.isFinite(b)).map(([a, b, label]) => {
    const cx = px(a), cy = py(b);
    const end = cx > width * 0.6;
    let ty = cy - 8;
    while (placed.some(([ox, oy]) => Math.abs(ox - cx) < 150 && Math.abs(oy - ty) < 13)) ty += 13;
    placed.push([cx, ty]);
    return s('g', { class: `dot c${at}` }, shapes[at % shapes.length](cx, cy),
      label && s('text', { x: end ? cx - 8 : cx + 8, y: ty, 'text-anchor': end ? 'end' : 'start' }, label));
  });
}

function legend(series) {
  if (series.length < 2) return null;
  return h('ul', { class: 'legend' }, series.map((one, at) => h('li', {},
    s('svg', { width: 26, height: 14, 'aria-hidden': 'true' }, one.kind === 'dots'
      ? s('g', { class: `dot c${at}` }, shapes[at % shapes.length](13, 7))
      : s('path', { class: `line c${at}`, d: 'M1 7h24' })), one.name)));
}

function chartTable(title, x, y, series) {
  const rows = series.flatMap((one) => one.points.map(([a, b, label]) => [one.name, label || '', x.text(a), y.text(b)]));
  return h('details', { class: 'table' }, h('summary', {}, t('chart.table')),
    scroll(title, h('table', {}, h('caption', {}, title),
      h('thead', {}, h('tr', {}, [t('chart.series'), t('chart.name'), x.label, y.label].map((name) => h('th', { scope: 'col' }, name)))),
      h('tbody', {}, rows.map((row) => h('tr', {}, row.map((cell) => h('td', {}, cell))))))));
}

export const scroll = (label, ...children) => h('div', { class: 'scroll', role: 'region', tabindex: '0', 'aria-label': label }, children);

/* Horizontal bars: rows of [name, share in [0, 1], text]. */
export function bars(title, rows) {
  return h('table', { class: 'bars' }, h('caption', {}, title), h('tbody', {}, rows.map(([name, share, text], at) => h('tr', {},
    h('th', { scope: 'row' }, name),
    h('td', { class: 'bar' }, s('svg', { viewBox: '0 0 100 10', preserveAspectRatio: 'none', 'aria-hidden': 'true' },
      s('rect', { class: 'track', width: 100, height: 10 }), s('rect', { class: `fill c${at % 6}`, width: 100 * Math.max(0, Math.min(1, share || 0)), height: 10 }))),
    h('td', {}, text)))));
}
