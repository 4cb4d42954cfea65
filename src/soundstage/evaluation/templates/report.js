"use strict";
// One button a row: all its videos start together and start over together; only the chosen one is heard.
let stopCurrent = () => {};

for (const row of document.querySelectorAll("[data-row]")) {
  const videos = [...row.querySelectorAll("video")];
  const button = row.querySelector("button");
  const [leader] = videos;
  let inStep = false;

  const hear = () => {
    const chosen = row.querySelector("input:checked");
    for (const video of videos) {
      video.muted = inStep && !(chosen && chosen.value === video.dataset.condition);
    }
  };

  const stop = () => {
    inStep = false;
    button.textContent = "▶ play all in step";
    for (const video of videos) {
      video.pause();
      video.loop = true;
    }
    hear();
    stopCurrent = () => {};
  };

  const restart = () => {
    for (const video of videos) {
      video.currentTime = 0;
    }
    Promise.all(videos.map((video) => video.play())).catch(() => {});
  };

  // Sound tracks end a little apart, so looping each video by itself would drift.
  leader.addEventListener("ended", () => {
    if (inStep) {
      restart();
    }
  });

  button.addEventListener("click", () => {
    if (inStep) {
      stop();
      return;
    }
    stopCurrent();
    stopCurrent = stop;
    inStep = true;
    button.textContent = "■ stop";
    for (const video of videos) {
      video.loop = false;
    }
    hear();
    restart();
  });

  for (const input of row.querySelectorAll("input")) {
    input.addEventListener("change", hear);
  }
}
