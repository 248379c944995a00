// The only script of the gateway's own pages. Each of them works without it.
"use strict";

// A server never sees the #fragment of a URL. Carry it through sign-in.
const fragment = location.hash.length > 1 && location.hash.length <= 2048 ? location.hash : "";
if (fragment) {
  for (const field of document.querySelectorAll("input[name=fragment]")) {
    field.form.addEventListener("submit", () => { field.value = fragment; });
  }
  for (const link of document.querySelectorAll("a[data-fragment]")) {
    link.hash = fragment;
  }
}

for (const button of document.querySelectorAll("button[data-reveal]")) {
  const field = document.getElementById(button.dataset.reveal);
  const show = (on) => {
    field.type = on ? "text" : "password";
    button.setAttribute("aria-pressed", String(on));
  };
  button.hidden = false;
  button.addEventListener("click", () => show(field.type === "password"));
  // Browsers offer to remember what they see as a password field only.
  field.form.addEventListener("submit", () => show(false));
}

// Times come in UTC: only the browser knows where its user is.
for (const time of document.querySelectorAll("time[data-local]")) {
  const date = new Date(time.dateTime);
  if (!Number.isNaN(date.valueOf())) {
    time.title = time.textContent;
    time.textContent = date.toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" });
  }
}
