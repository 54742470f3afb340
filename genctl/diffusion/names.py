"""The names of what `diffusion/` has, without torch: settings, options and help texts take their choices from here."""

from __future__ import annotations

from typing import Literal

PathName = Literal["linear", "cosine", "vp", "subvp", "ve", "edm"]  # path.py
TargetName = Literal["x", "noise", "velocity", "v", "F", "score"]  # target.py
WeightName = Literal["unit", "velocity", "elbo", "min-snr", "edm", "sigmoid"]
Density = Literal["uniform", "logit-normal", "log-normal", "mode"]  # time.py
Spacing = Literal["uniform", "karras", "exponential", "beta"]
SolverName = Literal[
    "euler", "heun", "heun_churn", "midpoint", "rk4", "dpmpp_2m", "dpmpp_3m",
    "ancestral", "consistency", "dpmpp_2m_sde", "sde", "predictor_corrector",
]  # fmt: skip  # solve.py
Rule = Literal["cfg", "apg", "zero_star"]  # guide.py

SYNONYMS = {  # what other tools call our solvers; on any path DDIM is Euler's step, DDPM's sampler the ancestral one
    "ddim": "euler", "ddpm": "ancestral", "euler_a": "ancestral", "euler_ancestral": "ancestral", "lcm": "consistency",
    "dpm++_2m": "dpmpp_2m", "dpm++_3m": "dpmpp_3m", "dpm++_2m_sde": "dpmpp_2m_sde", "dpmsolver++": "dpmpp_2m",
    "edm": "heun", "flow_match_euler": "euler",
}  # fmt: skip
