"use strict";
// Filters, sorting and hovering for a page that shows everything without them. What is drawn already is only reshaped.
const DATA = JSON.parse(document.getElementById("data").textContent);
const SHOWN_ROWS = 15;
const NO_WEEK = "no week before yet";
const studio = document.getElementById("studio"), from = document.getElementById("from"), to = document.getElementById("to");
const isAll = () => studio.value === "";
const isIn = date => (!from.value || date >= from.value) && (!to.value || date <= to.value);
const text = (value, digits) => value.toLocaleString("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits });
const number = value => text(value, value % 1 && value < 100 ? 1 : 0);
const brief = value => value >= 1e6 ? `${text(value / 1e6, 1)} M` : number(value);
const sum = pairs => pairs.filter(([name]) => isAll() || name === studio.value).reduce((all, [, value]) => all + value, 0);

// Key figures

const comparison = (now, then, hasBefore) => {
    if (!hasBefore) return NO_WEEK;
    if (now === then) return "as the week before";
    if (!then) return "0 the week before";
    const percent = Math.round((now / then - 1) * 100);
    return `${percent > 0 ? "+" : percent < 0 ? "\u2212" : "\u00b1"}${text(Math.abs(percent), 0)} % on ${brief(then)}`;
};
const showFigures = () => DATA.figures.forEach((figure, place) => {
    const shown = document.getElementById(`figure-${place}`);
    const isKnown = ([name]) => isAll() || name === studio.value;
    const now = sum(figure.values), before = figure.before.filter(isKnown);
    shown.querySelector("strong").firstChild.textContent = `${brief(now)} `;
    shown.querySelector("small").textContent = comparison(now, sum(figure.before), before.length > 0);
});

// Charts

const part = (name, id) => document.getElementById(`${name}-${id}`);
const label = (name, id, value) => {
    const found = part(name, id)?.querySelector("text");
    if (found) found.textContent = value;
};
const bar = (left, top, right, bottom) => `M${left} ${top}H${right}V${bottom}H${left}Z`;
const numbers = chart => {
    const wanted = chart.studios.indexOf(studio.value);
    const series = chart.series.map(() => chart.over.map(() => 0));
    for (const [place, one, where, value] of chart.cells)
        if ((isAll() || !chart.studios.length || where === wanted) && (chart.kind === "ranks" || isIn(chart.over[place])))
            series[one][place] += value;
    return series;
};
const totals = series => series[0].map((_, place) => series.reduce((all, values) => all + values[place], 0));

const reshapeDates = (name, chart, series) => {
    const { axis } = chart, most = Math.max(0, ...totals(series)), top = axis.top;
    const step = axis.ticks.length > 1 ? axis.ticks[1] - axis.ticks[0] : 1;
    const factors = [1, 0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005, 0.002, 0.001];
    const fits = factor => factor * top >= most && (!axis.whole || Number.isInteger(+(step * factor).toFixed(6)));
    const factor = most ? factors.filter(fits).pop() ?? 1 : 1;
    axis.ticks.forEach((tick, place) => label(name, `tick-${place}`, (tick * factor).toLocaleString("en-US")));
    const feet = chart.over.map(() => axis.base);
    series.forEach((values, one) => {
        const bars = values.map((value, place) => {
            const [left, right] = axis.bars[place], foot = feet[place];
            feet[place] += value * axis.scale / factor;
            return isIn(chart.over[place]) ? bar(left, feet[place], right, foot) : "";
        });
        part(name, `bars-${one}`)?.querySelector("path")?.setAttribute("d", bars.join("") || "M0 0");
        const days = chart.over.map((day, place) => isIn(day) ? place : -1).filter(place => place >= 0);
        const last = days.length ? number(values[days.at(-1)]) : "\u2013";
        label(name, `legend-${one}`, `${chart.legend[one]} ${last}`);
    });
};
const ranking = (chart, sums) => {
    const places = chart.over.map((_, place) => place);
    if (!chart.axis.ordered) places.sort((one, other) => sums[other] - sums[one] || one - other);
    return places.slice(0, chart.axis.bars.length);
};
const reshapeRanks = (name, chart, series) => {
    const { axis } = chart, sums = totals(series), places = ranking(chart, sums);
    const longest = Math.max(0, ...sums) || 1, scale = axis.scale * axis.longest / longest;
    chart.shown = places;
    places.forEach((place, slot) => {
        let left = axis.base;
        const [top, bottom] = axis.bars[slot], isEmpty = !axis.ordered && !sums[place];
        series.forEach((values, one) => {
            const right = left + values[place] * scale;
            const path = document.getElementById(`${name}-bars-${one}-${slot}`)?.querySelector("path");
            path?.setAttribute("d", bar(left, top, right, bottom));
            left = right;
        });
        label(name, `name-${slot}`, isEmpty ? "" : axis.names[place]);
        label(name, `total-${slot}`, isEmpty ? "" : number(sums[place]));
        part(name, `total-${slot}`)?.querySelector("text")?.setAttribute("x", left + 4);
    });
};
const showCharts = () => Object.entries(DATA.charts).forEach(([name, chart]) =>
    (chart.kind === "dates" ? reshapeDates : reshapeRanks)(name, chart, numbers(chart)));

// What the pointer or the arrow keys are on

const tip = document.createElement("div");
tip.id = "tip";
tip.hidden = true;
document.body.append(tip);
const showTip = (name, chart, place, box) => {
    const series = numbers(chart), sums = totals(series);
    const heading = document.createElement("b");
    heading.textContent = chart.over[place];
    tip.replaceChildren(heading);
    const line = words => tip.append(document.createElement("br"), words);
    if (DATA.owners[chart.over[place]]) line(DATA.owners[chart.over[place]]);
    if (chart.series.length > 1)
        chart.series.forEach((one, at) => { if (series[at][place]) line(`${one}: ${number(series[at][place])}`); });
    line(`${number(sums[place])} ${chart.unit}`);
    tip.hidden = false;
    const left = Math.min(box.left, document.documentElement.clientWidth - tip.offsetWidth - 8);
    tip.style.left = `${Math.max(0, left) + scrollX}px`;
    tip.style.top = `${box.top + scrollY - tip.offsetHeight - 8}px`;
};
for (const [name, chart] of Object.entries(DATA.charts)) {
    const svg = document.querySelector(`[id="${name}"] svg`);
    if (!svg) continue;
    const bars = chart.axis.bars, isDates = chart.kind === "dates";
    const distance = (edges, at) => Math.max(edges[0] - at, at - edges[1], 0);
    const boxOf = slot => {
        const frame = svg.getBoundingClientRect(), size = svg.viewBox.baseVal;
        const x = isDates ? bars[slot][0] : chart.axis.base, y = isDates ? 0 : bars[slot][0];
        return { left: frame.left + x * frame.width / size.width, top: frame.top + y * frame.height / size.height };
    };
    const show = slot => showTip(name, chart, isDates ? slot : (chart.shown ?? bars.map((_, at) => at))[slot], boxOf(slot));
    svg.addEventListener("pointermove", event => {
        const frame = svg.getBoundingClientRect(), size = svg.viewBox.baseVal;
        const at = isDates ? (event.clientX - frame.left) * size.width / frame.width
            : (event.clientY - frame.top) * size.height / frame.height;
        const slots = bars.map((edges, slot) => [distance(edges, at), slot]).sort((one, other) => one[0] - other[0]);
        if (slots.length) show(slots[0][1]);
    });
    svg.addEventListener("pointerleave", () => { tip.hidden = true; });
    svg.tabIndex = 0;
    let current = bars.length - 1;
    svg.addEventListener("focus", () => { if (svg.matches(":focus-visible")) show(current); });
    svg.addEventListener("blur", () => { tip.hidden = true; });
    svg.addEventListener("keydown", event => {
        const step = { ArrowLeft: -1, ArrowUp: -1, ArrowRight: 1, ArrowDown: 1 }[event.key];
        if (event.key === "Escape") tip.hidden = true;
        if (!step) return;
        event.preventDefault();
        current = Math.min(Math.max(current + step, 0), bars.length - 1);
        show(current);
    });
}

// Tables

const tables = [...document.querySelectorAll("table")].map(table => {
    const body = table.tBodies[0], rest = table.nextElementSibling?.matches("template") ? table.nextElementSibling : null;
    const note = (rest ?? table).nextElementSibling?.matches(".more") ? (rest ?? table).nextElementSibling : null;
    return { table, body, note, rows: [...body.rows, ...(rest?.content.cloneNode(true).children ?? [])], isWhole: false };
});
const showTable = one => {
    const chosen = one.rows.filter(row => (isAll() || !("studio" in row.dataset) || row.dataset.studio === studio.value)
        && (!("date" in row.dataset) || isIn(row.dataset.date)));
    const shown = one.isWhole ? chosen : chosen.slice(0, SHOWN_ROWS);
    one.body.replaceChildren(...shown);
    if (one.note) {
        const missing = +one.note.dataset.total - one.rows.length, rest = chosen.length - shown.length;
        const isFiltered = chosen.length < one.rows.length;
        const count = isFiltered && missing ? "There may be more" : `\u2026 and ${(rest + missing).toLocaleString("en-US")} more`;
        one.note.querySelector("span").textContent = count;
        one.note.querySelector("button").hidden = !rest;
        one.note.hidden = !rest && !missing;
    }
};
for (const one of tables) {
    if (one.note) {
        const button = document.createElement("button");
        button.textContent = "Show them";
        button.addEventListener("click", () => { one.isWhole = true; showTable(one); });
        one.note.append(" ", button);
    }
    one.table.querySelectorAll("th").forEach((heading, column) => {
        const button = document.createElement("button");
        button.textContent = heading.textContent;
        heading.replaceChildren(button);
        button.addEventListener("click", () => {
            const isUp = heading.getAttribute("aria-sort") === "ascending", isNumber = heading.classList.contains("number");
            const goesUp = heading.hasAttribute("aria-sort") ? !isUp : !isNumber;
            one.table.querySelectorAll("th").forEach(other => other.removeAttribute("aria-sort"));
            heading.setAttribute("aria-sort", goesUp ? "ascending" : "descending");
            const value = row => row.cells[column].dataset.value ?? row.cells[column].textContent;
            const compare = (a, b) => isNumber ? (a === "" ? -Infinity : +a) - (b === "" ? -Infinity : +b) : a.localeCompare(b);
            one.rows.sort((a, b) => compare(value(a), value(b)) * (goesUp ? 1 : -1));
            showTable(one);
        });
    });
}

// Filters

const show = () => {
    showFigures();
    showCharts();
    tables.forEach(showTable);
    tip.hidden = true;
};
for (const name of DATA.studios) studio.add(new Option(name, name));
const dates = new Set(Object.values(DATA.charts).filter(chart => chart.kind === "dates").flatMap(chart => chart.over));
for (const date of [...dates].sort()) [from, to].forEach(input => input.add(new Option(date, date)));
for (const input of [studio, from, to]) input.addEventListener("change", show);
document.getElementById("reset").addEventListener("click", () => { studio.value = from.value = to.value = ""; show(); });
tables.forEach(showTable);
document.getElementById("filters").hidden = false;
document.documentElement.classList.add("script");
