{const r=document.documentElement;r.classList.add("js");try{const t=localStorage.getItem("journeykit-theme");if(t)r.dataset.theme=t}catch{}}
