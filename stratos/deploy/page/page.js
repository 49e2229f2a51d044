"use strict";
// What a model or a user wrote is put into the page as text, never as markup.
const $ = (id) => document.getElementById(id);
const seconds = (ms) => ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(1)} s`;
let facts = { examples: [] };
let under_way = null;

async function post(path, body, signal) {
  const answer = await fetch(path, {
    method: "POST", body: JSON.stringify(body), signal,
    headers: { "Content-Type": "application/json" },
  });
  if (!answer.ok) {
    const said = await answer.json().catch(() => ({}));
    throw new Error(said.error || `The page's server answers ${answer.status}.`);
  }
  return answer;
}

async function* parts(answer) {
  const decoder = new TextDecoder();
  let rest = "";
  for (const reader = answer.body.getReader(); ;) {
    const { done, value } = await reader.read();
    if (done) return;
    const lines = (rest + decoder.decode(value, { stream: true })).split("\n");
    rest = lines.pop();
    for (const line of lines) {
      if (!line.startsWith("data:") || line.slice(5).trim() === "[DONE]") continue;
      const event = JSON.parse(line.slice(5));
      if (event.error) throw new Error(event.error.message || "The student's server failed.");
      const text = event.choices?.[0]?.delta?.content;
      if (text) yield text;
    }
  }
}

// Shows what was read in a text: the answer above, the rest folded.
function settle(reply, text, checked) {
  const shown = reply.querySelector(".answer"), details = reply.querySelector("details");
  const thought = /^\s*<think>([\s\S]*?)<\/think>/.exec(text);
  const bare = thought ? text.slice(thought[0].length).trim() : text.trim();
  shown.textContent = checked.answer ?? bare;
  if (checked.answer === null && facts.task) shown.textContent = "no answer can be read";
  if (checked.is_right !== null) shown.classList.add(checked.is_right ? "good" : "bad");
  details.open = false;
  details.hidden = shown.textContent === text.trim();
}

function verdict(checked) {
  if (checked.is_right !== null) {
    return checked.is_right ? "✓ The student is right." : `✗ The right answer is ${checked.gold}`;
  }
  if (checked.gold !== null) return `The right answer is ${checked.gold}`;
  return facts.task ? "Nobody knows the right answer to this question: it is not checked." : "";
}

async function teacher(question, replies, signal) {
  const reply = replies.querySelector(".student").cloneNode(true);
  reply.className = "reply teacher";
  reply.querySelector("h2").textContent = `Teacher ${facts.teacher}`;
  reply.querySelector(".facts").textContent = "is asked …";
  reply.querySelector(".answer").textContent = reply.querySelector("pre").textContent = "";
  replies.append(reply);
  try {
    const found = await (await post("teacher", { question }, signal)).json();
    reply.querySelector("pre").textContent = found.text;
    const paid = found.usd ? `, $${found.usd.toPrecision(2)}` : "";
    reply.querySelector(".facts").textContent = seconds(1000 * found.seconds) + paid;
    settle(reply, found.text, found.checked);
  } catch (error) {
    reply.querySelector(".facts").textContent = error.message;
  }
}

async function ask(question) {
  const card = $("one").content.cloneNode(true).querySelector("article");
  const reply = card.querySelector(".student"), pre = reply.querySelector("pre");
  card.querySelector(".asked").textContent = question;
  $("answers").prepend(card);
  under_way = new AbortController();
  const { signal } = under_way;
  $("ask").disabled = true;
  $("stop").hidden = false;
  $("error").hidden = true;
  const beside = $("with-teacher").checked
    ? teacher(question, card.querySelector(".replies"), signal) : null;
  const began = performance.now();
  let text = "", first = null;
  try {
    for await (const part of parts(await post("ask", { question }, signal))) {
      first ??= performance.now() - began;
      text += part;
      pre.textContent = text;
    }
    const whole = seconds(performance.now() - began);
    reply.querySelector(".facts").textContent = first === null
      ? `an empty answer after ${whole}` : `${whole}, the first words after ${seconds(first)}`;
    const checked = await (await post("check", { question, text }, signal)).json();
    settle(reply, text, checked);
    card.querySelector(".verdict").textContent = verdict(checked);
    card.dataset.done = "yes";
  } catch (error) {
    const told = error.name === "AbortError" ? "Stopped." : error.message;
    reply.querySelector(".facts").textContent = told;
    if (error.name !== "AbortError") { $("error").textContent = told; $("error").hidden = false; }
  }
  await beside;
  under_way = null;
  $("ask").disabled = false;
  $("stop").hidden = true;
}

$("form").addEventListener("submit", (event) => {
  event.preventDefault();
  if (!under_way && $("question").value.trim()) ask($("question").value);
});
$("question").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    $("form").requestSubmit();
  }
});
$("stop").addEventListener("click", () => under_way?.abort());
$("example").addEventListener("change", () => {
  const chosen = facts.examples[$("example").value];
  if (chosen) { $("question").value = chosen.question; $("question").focus(); }
});

(async () => {
  facts = await (await fetch("facts")).json();
  $("task").textContent = facts.task ? `Try a student of ${facts.task}` : "Try a student";
  document.title = $("task").textContent;
  $("where").textContent = `${facts.student} at ${facts.url}`;
  facts.examples.forEach((one, place) => {
    const short = one.question.length > 60 ? `${one.question.slice(0, 59)}…` : one.question;
    $("example").append(new Option(short.replace(/\s+/g, " "), place));
  });
  if (facts.teacher) {
    $("beside").hidden = false;
    const price = facts.is_teacher_free ? "" : ", which costs money";
    $("beside").querySelector("span").textContent = `ask ${facts.teacher} too${price}`;
  }
  $("note").textContent = facts.why_not;
})();
