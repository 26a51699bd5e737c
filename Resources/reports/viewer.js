"use strict";
(function () {
  const viewer = document.getElementById("viewer");
  if (!viewer) return;
  viewer.hidden = false;
  const legend = JSON.parse(document.getElementById("legend").textContent);
  const canvas = viewer.querySelector("canvas");
  const pen = canvas.getContext("2d", { willReadFrequently: true });
  const slider = viewer.querySelector("input[type=range]");
  const toggle = viewer.querySelector("input[type=checkbox]");
  const caption = viewer.querySelector("figcaption");
  const slices = [...document.querySelectorAll("#slices > li")].map((item) => ({
    name: item.dataset.name, plain: item.children[0], labels: item.children[1],
  }));
  let chosen = 0;

  function labelsOf(slice) {
    pen.drawImage(slice.labels, 0, 0);
    const pixels = pen.getImageData(0, 0, canvas.width, canvas.height).data;
    const numbers = new Uint8Array(canvas.width * canvas.height);
    for (let n = 0; n < numbers.length; n++) numbers[n] = pixels[4 * n];
    return numbers;
  }

  function draw() {
    const slice = slices[slider.value];
    canvas.width = slice.plain.naturalWidth;
    canvas.height = slice.plain.naturalHeight;
    const numbers = toggle.checked ? labelsOf(slice) : null;
    pen.drawImage(slice.plain, 0, 0);
    const seen = new Set();
    if (numbers) {
      const picture = pen.getImageData(0, 0, canvas.width, canvas.height);
      const width = canvas.width;
      for (let n = 0; n < numbers.length; n++) {
        const label = numbers[n];
        if (!label) continue;
        seen.add(label);
        const edge = numbers[n - 1] !== label || numbers[n + 1] !== label || numbers[n - width] !== label || numbers[n + width] !== label;
        const share = edge ? 1 : label === chosen ? 0.5 : chosen ? 0.06 : 0.2;
        const strength = chosen && label !== chosen ? share * 0.5 : share;
        for (let c = 0; c < 3; c++)
          picture.data[4 * n + c] = (1 - strength) * picture.data[4 * n + c] + strength * legend[label - 1][1][c];
      }
      pen.putImageData(picture, 0, 0);
    }
    const names = [...seen].sort((a, b) => a - b).map((n) => legend[n - 1][0]);
    caption.textContent = slice.name + (names.length ? ": " + names.join(", ") : "");
    slider.setAttribute("aria-valuetext", slice.name);
    canvas.setAttribute("aria-label", caption.textContent);
  }

  function go(link) {
    chosen = Number(link.dataset.label);
    if (Number(link.dataset.slice) >= 0) slider.value = link.dataset.slice;
    document.querySelectorAll("tr.chosen, a.lead.chosen").forEach((other) => other.classList.remove("chosen"));
    link.classList.add("chosen");
    const row = link.dataset.row && document.getElementById(link.dataset.row);
    if (row) row.classList.add("chosen");
    draw();
    viewer.scrollIntoView({ block: "nearest" });
  }

  document.querySelectorAll("a.lead").forEach((link) => link.addEventListener("click", (event) => {
    event.preventDefault();
    go(link);
  }));
  slider.addEventListener("input", draw);
  toggle.addEventListener("change", draw);
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    slider.value = Number(slider.value) + Math.sign(event.deltaY);
    draw();
  }, { passive: false });
  window.addEventListener("load", draw);
})();
