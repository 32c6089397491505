"use strict";
// Makes the headers of tables into buttons that sort; rows without a number stay last.
for (const table of document.querySelectorAll("table[data-sortable]")) {
  const heads = [...table.tHead.rows[0].cells];
  const body = table.tBodies[0];
  const key = (row, column) => row.cells[column].dataset.sort ?? row.cells[column].textContent.trim();
  const isNumber = (text) => text !== "" && Number.isFinite(Number(text));
  const order = (a, b, sign) => {
    if (isNumber(a) && isNumber(b)) return sign * (Number(a) - Number(b));
    if (isNumber(a) !== isNumber(b) && (a === "" || b === "")) return a === "" ? 1 : -1;
    return sign * a.localeCompare(b, "en", { numeric: true });
  };
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    head.setAttribute("aria-sort", "none");
    button.addEventListener("click", () => {
      const sign = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
      for (const other of heads) other.setAttribute("aria-sort", "none");
      head.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
      const rows = [...body.rows];
      rows.sort((a, b) => order(key(a, column), key(b, column), sign));
      body.append(...rows);
    });
  });
}
