// Draws the charts, moves in the calendar by arrow keys, sends choices off as they are made.
// Everything can be read without it.
"use strict";

(() => {
  const dark = window.matchMedia("(prefers-color-scheme: dark)");

  /** Puts the style sheet's values in place of `@name`. */
  const painted = (value, style) => {
    if (typeof value === "string") {
      return value.startsWith("@") ? style.getPropertyValue(`--${value.slice(1)}`).trim() : value;
    }
    if (Array.isArray(value)) return value.map((item) => painted(item, style));
    if (value && typeof value === "object") {
      return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, painted(v, style)]));
    }
    return value;
  };

  const own = (address) => typeof address === "string" && /^\/(?!\/)/.test(address);

  const draw = (holder) => {
    const source = holder.parentElement.querySelector("script[type='application/json']");
    const spec = JSON.parse(source.textContent);
    const style = getComputedStyle(document.documentElement);
    const { data, layout } = painted(spec, style);
    const options = { responsive: true, displayModeBar: false, doubleClick: false };
    return Plotly.react(holder, data, { ...layout, height: spec.height }, options).then(() => {
      holder.dataset.drawn = dark.matches ? "dark" : "light";
    });
  };

  const start = (holder) => {
    draw(holder).then(() => {
      if (!holder.dataset.links) return;
      holder.on("plotly_click", (event) => {
        const found = event.points.map((point) => point.customdata).flat().find(own);
        if (found) window.location.assign(found);
      });
    }).catch((error) => {
      holder.textContent = "This drawing could not be made; its numbers are below.";
      console.error(error);
    });
  };

  const holders = [...document.querySelectorAll(".chart")];
  if (holders.length && window.Plotly) {
    // Those out of sight are drawn when they come near, so that a long page is quick.
    const seen = new IntersectionObserver((entries) => {
      for (const { isIntersecting, target } of entries) {
        if (!isIntersecting) continue;
        seen.unobserve(target);
        start(target);
      }
    }, { rootMargin: "400px" });
    holders.forEach((holder) => seen.observe(holder));
    const again = () => holders.filter((h) => h.dataset.drawn).forEach(draw);
    dark.addEventListener("change", again);
  }

  // One stop for the Tab key in a calendar; arrows move by day and by week.
  for (const calendar of document.querySelectorAll("[data-calendar]")) {
    const days = [...calendar.querySelectorAll("a[data-day]")];
    if (!days.length) continue;
    const rest = (chosen) => days.forEach((day) => { day.tabIndex = day === chosen ? 0 : -1; });
    rest(days.at(-1));
    const steps = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -7, ArrowDown: 7 };
    const number = (day) => Date.parse(day.dataset.day) / 864e5;
    calendar.addEventListener("keydown", (event) => {
      const at = days.indexOf(document.activeElement);
      if (at < 0) return;
      let next;
      if (event.key in steps) {
        const by = steps[event.key];
        const wanted = number(days[at]) + by;
        const onward = by > 0 ? days.slice(at + 1) : days.slice(0, at).reverse();
        next = onward.find((day) => (number(day) - wanted) * Math.sign(by) >= 0);
      } else if (event.key === "Home") {
        next = days[0];
      } else if (event.key === "End") {
        next = days.at(-1);
      }
      if (!next && !(event.key in steps)) return;
      event.preventDefault();
      if (next) { rest(next); next.focus(); }
    });
    calendar.addEventListener("focusin", (event) => {
      const day = event.target.closest("a[data-day]");
      if (day) rest(day);
    });
  }

  // A choice takes effect when it is made; without this there is a button.
  for (const form of document.querySelectorAll("form[data-auto]")) {
    form.addEventListener("change", (event) => {
      if (event.target.matches("select")) form.requestSubmit();
    });
    form.addEventListener("formdata", ({ formData }) => {
      for (const [name, value] of [...formData]) if (!value) formData.delete(name);
    });
  }
})();
