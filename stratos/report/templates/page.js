"use strict";
// What a page does beyond being read: plots that answer to the pointer, tables that sort, filters.
// Text reaches the document through textContent alone.

const SVG = "http://www.w3.org/2000/svg";
const across = (fraction) => `${(fraction * 100).toFixed(3)}%`;
const up = (fraction) => across(1 - fraction);

function element(name, attributes, text) {
  const node = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  if (text !== undefined) node.textContent = text;
  return node;
}

function setUpPlot(figure) {
  const plot = JSON.parse(figure.dataset.plot);
  const canvas = figure.querySelector(".canvas");
  const drawing = figure.querySelector(".drawing");
  const tip = figure.querySelector(".tip");
  const circles = [...figure.querySelectorAll(".marks circle")];
  const lines = [...figure.querySelectorAll(".lines polyline:not(.frontier)")];
  const edge = figure.querySelector(".lines .frontier");
  let only = null;
  let [x, y] = [plot.xs[0], plot.ys[0]];

  function draw() {
    const [xAxis, yAxis] = [plot.axes[x], plot.axes[y]];
    figure.querySelector(".x-label").textContent = xAxis.label;
    figure.querySelector(".y-label").textContent = yAxis.label;
    figure.querySelector(".ticks-x").replaceChildren(...xAxis.ticks.flatMap(([at, label]) => [
      element("line", { y1: "100%", y2: "100%", x1: across(at), x2: across(at) }),
      element("text", { y: "100%", dy: "1.5em", x: across(at) }, label),
    ]));
    figure.querySelector(".ticks-y").replaceChildren(...yAxis.ticks.flatMap(([at, label]) => [
      element("line", { x1: "0", x2: "100%", y1: up(at), y2: up(at) }),
      element("text", { x: "-8", y: up(at), dy: "0.32em" }, label),
    ]));
    lines.forEach((line, i) => line.setAttribute("points", plot.lines[i].at
      .filter((at) => x in at && y in at)
      .map((at) => `${(at[x] * 1000).toFixed(1)},${(1000 - at[y] * 1000).toFixed(1)}`).join(" ")));
    circles.forEach((circle, i) => {
      const at = plot.marks[i].at;
      const there = isThere(i);
      circle.setAttribute("visibility", there ? "visible" : "hidden");
      if (!there) return;
      circle.setAttribute("cx", across(at[x]));
      circle.setAttribute("cy", up(at[y]));
    });
    if (edge) drawFrontier();
    if (plot.xs.length > 1 && plot.ys.length > 1) {
      const name = (axis) => axis.label.replace(", log scale", "");
      const title = figure.querySelector(".plot-title");
      title.textContent = `${name(yAxis)} against ${name(xAxis)}`.replace(/^./, (c) => c.toUpperCase());
    }
    hide();
  }

  function isThere(index) {
    const { at, label } = plot.marks[index];
    return x in at && y in at && (!only || only.has(label));
  }

  // Marks that no other one beats on both axes, from left to right. More is better of accuracy alone.
  function beatenByNone() {
    const good = (axis, at) => (axis === "accuracy" ? at[axis] : -at[axis]);
    const shown = plot.marks.filter((_, i) => isThere(i)).map((mark) => [good(x, mark.at), good(y, mark.at), mark]);
    shown.sort((a, b) => b[0] - a[0] || b[1] - a[1]);
    let best = -Infinity;
    const kept = shown.filter(([, other]) => other > best && ((best = other), true)).map(([, , mark]) => mark);
    return kept.sort((a, b) => a.at[x] - b.at[x]);
  }

  function drawFrontier() {
    edge.setAttribute("points", beatenByNone()
      .map(({ at }) => `${(at[x] * 1000).toFixed(1)},${(1000 - at[y] * 1000).toFixed(1)}`).join(" "));
  }

  figure.restrict = (labels) => {
    only = labels;
    circles.forEach((circle, i) => circle.setAttribute("visibility", isThere(i) ? "visible" : "hidden"));
    if (edge) drawFrontier();
  };
  figure.frontier = () => new Set(beatenByNone().map((mark) => mark.label));

  function hide() {
    tip.hidden = true;
    circles.forEach((circle) => circle.classList.remove("on"));
  }

  function show(index) {
    hide();
    const mark = plot.marks[index];
    circles[index].classList.add("on");
    const label = document.createElement("strong");
    label.textContent = mark.label;
    tip.replaceChildren(label, ...mark.rows.map(([name, value]) => {
      const row = document.createElement("span");
      const bold = document.createElement("b");
      bold.textContent = value;
      row.append(name, bold);
      return row;
    }));
    tip.hidden = false;
    const area = drawing.getBoundingClientRect();
    const frame = canvas.getBoundingClientRect();
    const left = area.left - frame.left + mark.at[x] * area.width;
    const top = area.top - frame.top + (1 - mark.at[y]) * area.height;
    const flip = left + tip.offsetWidth + 16 > frame.width;
    const wanted = flip ? left - tip.offsetWidth - 14 : left + 14;
    tip.style.left = `${Math.max(0, Math.min(wanted, frame.width - tip.offsetWidth))}px`;
    tip.style.top = `${Math.max(0, top - tip.offsetHeight / 2)}px`;
  }

  function nearest(event) {
    const area = drawing.getBoundingClientRect();
    let [best, distance] = [-1, plot.lines.length ? 60 : 28];
    plot.marks.forEach(({ at }, i) => {
      if (!isThere(i)) return;
      const dx = event.clientX - area.left - at[x] * area.width;
      const dy = event.clientY - area.top - (1 - at[y]) * area.height;
      const d = plot.lines.length ? Math.abs(dx) : Math.hypot(dx, dy);
      if (d <= distance) [best, distance] = [i, d];
    });
    return best;
  }

  function open(index) {
    if (index >= 0 && plot.marks[index].href) window.location.assign(plot.marks[index].href);
  }

  canvas.addEventListener("pointermove", (event) => {
    const index = nearest(event);
    canvas.style.cursor = index >= 0 && (table || plot.marks[index].href) ? "pointer" : "";
    if (index < 0) hide(); else show(index);
  });
  canvas.addEventListener("pointerleave", hide);
  // Picking a mark shows it beside the chosen one. One mark is a tab stop; arrows lead to the others.
  const table = figure.dataset.picks ? document.getElementById(figure.dataset.picks) : null;

  function pick(index) {
    if (index < 0) return;
    circles.forEach((circle, i) => circle.setAttribute("aria-pressed", String(i === index)));
    stop(index);
    fillPicked(table, plot.marks.find((mark) => mark.kind === "chosen"), plot.marks[index]);
  }

  function stop(index) {
    circles.forEach((circle, i) => circle.setAttribute("tabindex", i === index ? "0" : "-1"));
  }

  function neighbour(index, key) {
    const [axis, step] = { ArrowLeft: [x, -1], ArrowRight: [x, 1], ArrowDown: [y, -1], ArrowUp: [y, 1] }[key] ?? [];
    if (axis === undefined) return -1;
    const shown = plot.marks.map((_, i) => i).filter((i) => x in plot.marks[i].at && y in plot.marks[i].at);
    shown.sort((a, b) => plot.marks[a].at[axis] - plot.marks[b].at[axis] || a - b);
    return shown[shown.indexOf(index) + step] ?? -1;
  }

  const act = table ? pick : open;
  canvas.addEventListener("click", (event) => act(nearest(event)));
  canvas.addEventListener("keydown", (event) => { if (event.key === "Escape") hide(); });
  circles.forEach((circle, i) => {
    circle.addEventListener("focus", () => show(i));
    circle.addEventListener("blur", hide);
    circle.addEventListener("keydown", (event) => {
      if (event.key === "Enter" || (table && event.key === " ")) act(i);
      else if (table && neighbour(i, event.key) >= 0) {
        stop(neighbour(i, event.key));
        circles[neighbour(i, event.key)].focus();
      } else return;
      event.preventDefault();
    });
  });
  figure.querySelectorAll("select").forEach((select) => select.addEventListener("change", () => {
    if (select.dataset.axis === "x") x = select.value; else y = select.value;
    draw();
    figure.dispatchEvent(new Event("axes"));
  }));
  // A reload may restore another choice than the one that was drawn.
  figure.querySelectorAll("select").forEach((select) => {
    if (select.dataset.axis === "x") x = select.value; else y = select.value;
  });
  draw();
}

function fillPicked(table, chosen, picked) {
  const cell = (name, text, type) => {
    const node = document.createElement(name);
    node.textContent = text ?? "";
    if (type) node.className = type;
    return node;
  };
  const rows = new Map(chosen.rows.map(([name, value]) => [name, [value, "", ""]]));
  for (const [name, value, against] of picked.rows) {
    rows.set(name, [rows.get(name)?.[0] ?? "", value, against ?? ""]);
  }
  table.querySelector(".picked-name").textContent = picked === chosen ? "The chosen plan itself" : picked.label;
  table.tBodies[0].replaceChildren(...[...rows].map(([name, [ours, theirs, against]]) => {
    const row = document.createElement("tr");
    const head = cell("th", name);
    head.scope = "row";
    row.append(head, cell("td", ours), cell("td", theirs), cell("td", against, "num"));
    row.classList.toggle("differs", ours !== theirs);
    return row;
  }));
  const code = document.getElementById(`${table.id}-command`);
  if (!code) return;
  const said = document.getElementById(`${table.id}-said`);
  code.textContent = picked.command;
  code.closest(".to-type").hidden = !picked.command;
  said.textContent = picked.command
    ? `To carry out ${picked === chosen ? "the chosen plan" : picked.label} (teacher, student and strategy are pinned, and the servers are chosen for them again):`
    : "This plan has a model that was given by its path, so that no command names it.";
}

// Pages of a file have no clipboard in some browsers: the command is selected then, to be copied by key.
function setUpCopy(button) {
  const code = button.parentElement.querySelector("code");
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(code.textContent);
      button.textContent = "Copied";
    } catch {
      window.getSelection().selectAllChildren(code);
      button.textContent = "Selected";
    }
    setTimeout(() => { button.textContent = "Copy"; }, 2000);
  });
}

function setUpSorting(header) {
  const table = header.closest("table");
  const column = [...header.parentElement.children].indexOf(header);
  header.querySelector("button").addEventListener("click", () => {
    const descending = header.getAttribute("aria-sort") === "ascending";
    for (const other of header.parentElement.children) other.removeAttribute("aria-sort");
    header.setAttribute("aria-sort", descending ? "descending" : "ascending");
    const key = (row) => row.children[column].dataset.value ?? row.children[column].textContent.trim();
    const byText = new Intl.Collator(undefined, { numeric: true }).compare;
    const rows = [...table.tBodies[0].rows].map((row) => [key(row), row]);
    rows.sort(([a], [b]) => {
      // What has no value stays at the end either way.
      if (a === "" || b === "") return (a === "") - (b === "");
      const order = header.dataset.sort === "number" ? Number(a) - Number(b) : byText(a, b);
      return descending ? -order : order;
    });
    table.tBodies[0].append(...rows.map(([, row]) => row));
    table.dispatchEvent(new Event("sorted"));
  });
}

// An answer that came as data: the same article as the markup of the others.
function answerArticle([question, gold, slice, kind, replies], names) {
  const make = (name, type, text) => {
    const node = document.createElement(name);
    if (type) node.className = type;
    if (text !== undefined) node.textContent = text;
    return node;
  };
  const article = make("article");
  const header = make("header");
  const right = make("p", "gold");
  right.append(make("span", "", "Right answer"), " ", make("code", "", gold));
  header.append(make("span", "tag", slice.replaceAll("_", " ")), make("p", "question", question), right);
  article.append(header);
  for (const [model, isRight, answer, text, nCut] of replies) {
    const said = isRight === null ? ["", "", "not scored"] : isRight ? ["good", "✓", "right"] : ["bad", "✗", "wrong"];
    const mark = make("span", `mark ${said[0]}`, said[1]);
    mark.append(make("span", "sr", said[2]));
    const wrote = make("div");
    wrote.append(make("code", "answer", answer || "(nothing)"));
    if (text) {
      const details = make("details");
      details.append(make("summary", "", "All it wrote"), make("pre", "", text));
      if (nCut) details.append(make("p", "absent", `${nCut.toLocaleString("en")} more characters in the run folder.`));
      wrote.append(details);
    }
    const reply = make("div", `reply ${model}`);
    reply.append(make("span", "who", names[model]), mark, wrote);
    article.append(reply);
  }
  return article;
}

const OUTCOMES = { won: "right", both: "right", right: "right", lost: "wrong", neither: "wrong", wrong: "wrong" };

// All answers are in the page; those that pass the filters are shown, some at a time.
function setUpAnswers(section) {
  const atOnce = 24;
  const buttons = [...section.querySelectorAll("[data-filter]")];
  const selects = [...section.querySelectorAll("select[data-by]")];
  const search = section.querySelector("[data-search]");
  const more = section.querySelector("[data-more]");
  const count = section.querySelector("[data-count]");
  const list = section.querySelector(".examples");
  if (!more) return;
  const items = [...section.querySelectorAll("article[data-outcome]")].map((article) => ({
    ...article.dataset, article, words: article.textContent.toLowerCase(),
  }));
  const rest = section.querySelector("[data-rest]");
  const names = rest ? JSON.parse(rest.dataset.names) : {};
  for (const row of rest ? JSON.parse(rest.textContent) : []) {
    const [question, gold, slice, kind, replies] = row;
    const words = [question, gold, slice, ...replies.flatMap(([, , answer, text]) => [answer, text])];
    items.push({ slice, gold, kind, outcome: OUTCOMES[kind] ?? "", row, words: words.join("\n").toLowerCase() });
  }
  let outcome = "";
  let shown = atOnce;

  function passes(item) {
    if (outcome && item.outcome !== outcome && item.kind !== outcome) return false;
    if (selects.some((select) => select.value && item[select.dataset.by] !== select.value)) return false;
    const wanted = search.value.trim().toLowerCase();
    return !wanted || item.words.includes(wanted);
  }

  function apply() {
    const passing = items.filter(passes);
    const visible = new Set(passing.slice(0, shown));
    for (const item of items) {
      if (visible.has(item) && !item.article) {
        item.article = answerArticle(item.row, names);
        // Behind the last one before it that is there, so that the order stays.
        const before = items.slice(0, items.indexOf(item)).findLast((one) => one.article);
        if (before) before.article.after(item.article); else list.append(item.article);
      }
      if (item.article) item.article.hidden = !visible.has(item);
    }
    count.textContent = `${visible.size.toLocaleString("en")} shown of ${passing.length.toLocaleString("en")} that match`;
    more.hidden = visible.size === passing.length;
  }

  function again() {
    shown = atOnce;
    apply();
  }

  for (const button of buttons) {
    button.addEventListener("click", () => {
      for (const other of buttons) other.setAttribute("aria-pressed", other === button);
      outcome = button.dataset.filter;
      again();
    });
  }
  for (const select of selects) select.addEventListener("change", again);
  search.addEventListener("input", again);
  more.addEventListener("click", () => {
    shown += atOnce;
    apply();
  });
  apply();
}

document.querySelectorAll("figure[data-plot]").forEach(setUpPlot);
document.querySelectorAll("th[data-sort]").forEach(setUpSorting);
document.querySelectorAll("#examples").forEach(setUpAnswers);
document.querySelectorAll("[data-copy]").forEach(setUpCopy);
// What scrolls inside the page is reached by the keyboard, and only while it scrolls.
function letKeysScroll() {
  document.querySelectorAll("pre, .scroll").forEach((box) => {
    const scrolls = box.scrollWidth > box.clientWidth || box.scrollHeight > box.clientHeight;
    if (scrolls) box.tabIndex = 0; else box.removeAttribute("tabindex");
  });
}
// The page of a run at work: it loads itself again, unless nobody writes it any more.
document.querySelectorAll("[data-written-s]").forEach((main) => {
  const { writtenS, silentS } = main.dataset;
  const check = () => {
    document.getElementById("silent").hidden = Date.now() / 1000 - writtenS < silentS;
  };
  check();
  setInterval(check, 1000);
});
letKeysScroll();
window.addEventListener("resize", letKeysScroll);
document.addEventListener("toggle", letKeysScroll, true);
window.addEventListener("beforeprint", () => {
  document.querySelectorAll("details").forEach((details) => { details.open = true; });
});
