// The page of a sweep: filters, the frontier over what they leave, and two runs side by side.

function setUpSweep(section) {
  const { runs, item_sets, questions } = JSON.parse(section.dataset.runs);
  const byName = new Map(runs.map((run) => [run.name, run]));
  const atOnce = 100;
  const table = section.querySelector("table");
  const rows = [...table.tBodies[0].rows];
  const more = section.querySelector("[data-more]");
  const selects = [...section.querySelectorAll("select[data-override]")];
  const search = section.querySelector("[data-search]");
  const only = section.querySelector("[data-only]");
  const count = section.querySelector("[data-count]");
  const pair = document.getElementById("pair");
  const figure = document.querySelector("#compare figure[data-plot]");
  const facts = new Map(rows.map((row) => [row, {
    name: row.dataset.job,
    overrides: new Set([...row.querySelectorAll(".overrides code")].map((one) => one.textContent)),
    text: row.textContent.toLowerCase(),
  }]));
  let frontier = new Set();
  let limit = atOnce;
  let matching = new Set(rows);
  let picked = [];

  function passes(row) {
    const { overrides, text } = facts.get(row);
    if (selects.some((one) => one.value && !(one.dataset.override === "status"
      ? row.dataset.status === one.value : overrides.has(`${one.dataset.override}=${one.value}`)))) return false;
    const wanted = search.value.trim().toLowerCase();
    return !wanted || text.includes(wanted);
  }

  function apply() {
    const passing = rows.filter(passes);
    if (figure) {
      figure.restrict(new Set(passing.map((row) => `Job ${facts.get(row).name}`)));
      frontier = figure.frontier();
    }
    matching = new Set(only && only.checked
      ? passing.filter((row) => frontier.has(`Job ${facts.get(row).name}`)) : passing);
    for (const row of rows) row.classList.toggle("on-frontier", frontier.has(`Job ${facts.get(row).name}`));
    show();
  }

  // Of many rows the first are shown: each that is shown takes time to lay out.
  function show() {
    let n = 0;
    for (const row of table.tBodies[0].rows) {
      const hidden = !matching.has(row) || n >= limit;
      if (!hidden) n += 1;
      if (row.hidden !== hidden) row.hidden = hidden;
    }
    more.hidden = n === matching.size;
    count.textContent = !matching.size ? `No job matches, of ${rows.length}. Clear the search or choose “all” above.`
      : n === matching.size ? `${n} of ${rows.length} shown`
      : `${n} shown of ${matching.size} that match, of ${rows.length}`;
  }

  function pick(name) {
    picked = picked.includes(name) ? picked.filter((one) => one !== name) : [...picked.slice(-1), name];
    for (const row of rows) {
      const place = picked.indexOf(row.dataset.job);
      const button = row.querySelector("button.pick");
      button.setAttribute("aria-pressed", String(place >= 0));
      button.textContent = place < 0 ? "+" : "AB"[place];
    }
    pair.hidden = picked.length < 2;
    if (picked.length === 2) fillPair(pair, byName.get(picked[0]), byName.get(picked[1]), item_sets, questions);
  }

  section.addEventListener("click", (event) => {
    const button = event.target.closest("button.pick");
    if (button) pick(button.closest("tr").dataset.job);
  });
  selects.forEach((one) => one.addEventListener("change", apply));
  search.addEventListener("input", apply);
  if (only) only.addEventListener("change", apply);
  if (figure) figure.addEventListener("axes", apply);
  table.addEventListener("sorted", show);
  more.addEventListener("click", () => {
    limit = Infinity;
    show();
  });
  apply();
}

function fillPair(section, a, b, item_sets, questions) {
  section.querySelector(".pair-verdict").textContent = pairVerdict(a, b, item_sets, questions);
  const rowsOf = (ours, theirs) => [...new Set([...Object.keys(ours), ...Object.keys(theirs)])]
    .map((key) => [key, ours[key] ?? "", theirs[key] ?? ""]);
  const settings = rowsOf(a.settings, b.settings).filter(([, one, other]) => one !== other);
  const figures = [["job", a.name, b.name], ...rowsOf(a.figures, b.figures)];
  const same = figures.filter(([, one, other]) => one === other).map(([key, one]) => [key, one]);
  fillRows(section.querySelector(".pair-figures"), figures.filter(([, one, other]) => one !== other));
  fillRows(section.querySelector(".pair-figures-same"), same);
  const folded = section.querySelector(".pair-same");
  folded.hidden = same.length === 0;
  folded.querySelector("summary").textContent = `${same.length} ${same.length === 1 ? "figure is" : "figures are"} equal`;
  fillRows(section.querySelector(".pair-settings"), settings);
  section.querySelector(".pair-equal").hidden = settings.length > 0;
}

function fillRows(table, rows) {
  table.tBodies[0].replaceChildren(...rows.map((texts) => {
    const row = document.createElement("tr");
    const cells = texts.map((text, place) => {
      const cell = document.createElement(place ? "td" : "th");
      cell.textContent = text;
      return cell;
    });
    cells[0].scope = "row";
    row.append(...cells);
    return row;
  }));
  table.hidden = rows.length === 0;
}

function pairVerdict(a, b, item_sets, questions) {
  const missing = [["A", a], ["B", b]].filter(([, run]) => run.item_set < 0).map(([name]) => name);
  if (missing.length) {
    return `${missing.join(" and ")} ${missing.length > 1 ? "have" : "has"} no answers to test items yet: no verdict.`;
  }
  const theirs = new Map(item_sets[b.item_set].map((item, place) => [item, b.right[place] === "1"]));
  let [n, both, onlyA, onlyB] = [0, 0, 0, 0];
  item_sets[a.item_set].forEach((item, place) => {
    if (!theirs.has(item)) return;
    const [ours, other] = [a.right[place] === "1", theirs.get(item)];
    n += 1;
    both += ours && other;
    onlyA += ours && !other;
    onlyB += other && !ours;
  });
  const left = leftOut(item_sets[a.item_set], item_sets[b.item_set], questions);
  if (!n && left.relabelled) {
    return `A and B have no test item with one label in common: no verdict.${left.said} Give both one data file.`;
  }
  if (!n) return "A and B were asked no test item in common: no verdict. Give both one task and one seed.";
  const p = mcnemar(onlyA, onlyB);
  const isOpen = p >= 0.05 || onlyA === onlyB;
  const sides = [["A", onlyA], ["B", onlyB]];
  if (!isOpen && onlyB > onlyA) sides.reverse();
  const [[lead, onlyLead], [other, onlyOther]] = sides;
  const [low, high] = differenceInterval(onlyLead, onlyOther, n);
  const head = isOpen ? `${lead} and ${other} are not told apart` : `${lead} is better than ${other}`;
  const percent = (value) => `${(100 * value).toFixed(1)}%`;
  const points = (value) => `${value < 0 ? "" : "+"}${(100 * value).toFixed(1)}`;
  return `${head}: ${lead} ${percent((both + onlyLead) / n)}, ${other} ${percent((both + onlyOther) / n)} of the `
    + `${n.toLocaleString("en")} test items of both (difference ${points((onlyLead - onlyOther) / n)} points, 95% interval `
    + `${points(low)} to ${points(high)} points; only ${lead} right on ${onlyLead.toLocaleString("en")}, only ${other} on `
    + `${onlyOther.toLocaleString("en")}, McNemar's exact test p = ${Number(p.toPrecision(2))}).${left.said}`;
}

// Items of one run alone: with another label in the other run, or not asked there.
function leftOut(ours, theirs, questions) {
  const [inOurs, inTheirs] = [new Set(ours), new Set(theirs)];
  const [ourQuestions, theirQuestions] = [ours, theirs].map((items) => new Set(items.map((item) => questions[item])));
  const onlyOurs = ours.filter((item) => !inTheirs.has(item));
  const relabelled = onlyOurs.filter((item) => theirQuestions.has(questions[item])).length;
  const onlyTheirs = theirs.filter((item) => !inOurs.has(item) && !ourQuestions.has(questions[item])).length;
  const told = [[relabelled, "whose labels differ"], [onlyOurs.length - relabelled, "that only A was asked"],
    [onlyTheirs, "that only B was asked"]]
    .filter(([n]) => n).map(([n, why]) => `${n.toLocaleString("en")} ${why}`).join(", ");
  return { relabelled, said: told && ` Left out: ${told}.` };
}

// McNemar's exact test, two-sided; in logarithms, since 2 to the n overflows.
function mcnemar(one, other) {
  const n = one + other;
  let [term, tail] = [-n * Math.LN2, 0];
  for (let k = 0; k <= Math.min(one, other); k += 1) {
    tail += Math.exp(term);
    term += Math.log((n - k) / (k + 1));
  }
  return Math.min(1, 2 * tail);
}

// The differences of two matched shares that a score test would not reject (Tango 1998), and 0 where
// the exact test does not.
function differenceInterval(onlyFirst, onlySecond, n) {
  const z = 1.959963984540054;
  const score = (difference) => {
    const linear = (2 * n - onlyFirst + onlySecond) * difference - onlyFirst - onlySecond;
    const constant = -onlySecond * difference * (1 - difference);
    const share = (Math.sqrt(Math.max(0, linear ** 2 - 8 * n * constant)) - linear) / (4 * n);
    const variance = Math.max(0, n * (2 * share + difference * (1 - difference)));
    const distance = onlyFirst - onlySecond - n * difference;
    if (variance > 0 || distance === 0) return distance / Math.sqrt(variance || 1);
    return Math.sign(distance) * Infinity;
  };
  const crossing = (level) => {
    let [low, high] = [-1, 1];
    for (let round = 0; round < 60; round += 1) {
      const middle = (low + high) / 2;
      if (score(middle) > level) low = middle; else high = middle;
    }
    return (low + high) / 2;
  };
  const [low, high] = [crossing(z), crossing(-z)];
  const isOpen = mcnemar(onlyFirst, onlySecond) >= 0.05;
  return isOpen ? [Math.min(low, 0), Math.max(high, 0)] : [low, high];
}

document.querySelectorAll("section[data-runs]").forEach(setUpSweep);
