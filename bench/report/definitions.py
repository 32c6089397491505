"""What each number of a report means, word for word what was computed."""

DEFINITIONS: dict[str, tuple[tuple[str, str], ...]] = {
    "Words": (
        ("canvas", "The positions that are denoised together, each holding one token."),
        (
            "denoise step",
            "One forward over a canvas: it gives every position a distribution over the "
            "vocabulary, and the sampler decides which positions to accept.",
        ),
        (
            "accepted, revoked, revised",
            "Accepted positions keep their sampled token for the next step, all others start again "
            "from noise. It is decided anew in every step: one that was accepted and no longer is "
            "was revoked; one whose final token is another than at its first acceptance was "
            "revised.",
        ),
        ("settled", "From a position's settled step on, its most likely token is the final one."),
        (
            "self-conditioning",
            "What the model believed in one step goes into the next, also where nothing was "
            "accepted.",
        ),
        ("commit", "The causal forward that writes a finished canvas into the cache."),
        (
            "fused commit",
            "One forward that writes a finished canvas into the cache and is the first denoise "
            "step of the next canvas at once: the weights are read once for both.",
        ),
        ("prefill", "The forward that reads the prompt."),
        ("delivered tokens", "What a user got: up to and including the first end of sequence."),
        ("slots", "Canvas positions, whatever they hold."),
        ("sibling", "The autoregressive model of the same architecture: a token a forward."),
        ("cap", "The most denoise steps that a canvas may take."),
        ("point, run", "One configuration; one invocation that measured one or more."),
        (
            "floor",
            "The least time that the bytes and products of a forward allow. The streaming floor "
            "knows weight bytes and the data sheet's bandwidth, the op floor each op group and the "
            "rates that this device reached.",
        ),
        (
            "measured, published, projected, assumed",
            "A number of this run; somebody else's, with its source; one computed for what nobody "
            "measured; one that was chosen.",
        ),
    ),
    "Speed": (
        (
            "delivered tok/s",
            "Delivered tokens / wall seconds of the request, prefill included; a ratio of sums "
            "over requests. Delivered: up to and including the first EOS, what a user got.",
        ),
        (
            "decode tok/s",
            "(delivered - tokens of the first delivery) / (time of the last delivery - time of the "
            "first). n/a where an answer came in one delivery, e.g. in a single canvas.",
        ),
        ("decode, median", "The same for each request alone; the median request."),
        ("without prefill", "Delivered tokens / (wall seconds - prefill seconds)."),
        ("slots", "Canvas positions / wall seconds: counts padding nobody reads."),
        (
            "1 / TPOT",
            "(delivered - 1) / (last delivery - first): what tools that stream single tokens "
            "print. Shown only to reconcile with them.",
        ),
        (
            "all together",
            "Delivered tokens of answered requests / seconds of the timed windows, each from the "
            "first request sent to the end of the last. Of a load of several requests at a time "
            "this is the server's rate; all others are those of one request among the others.",
        ),
        ("first text, canvas gap", "Seconds to the first delivery, and between two deliveries."),
        (
            "interval",
            "95 %. Between processes where a point has several; within the one process otherwise.",
        ),
    ),
    "Work": (
        (
            "steps a canvas",
            "Denoise forwards until the canvas stopped; the commit that writes its cache is none.",
        ),
        ("cap rate", "Share of canvases stopped by the step limit. n/a where steps are forced."),
        ("canvas fill", "Answer positions / positions of the canvas."),
        (
            "tokens a forward",
            "Delivered tokens / denoise forwards; the autoregressive model has none, so n/a. Of "
            "all forwards: prefill and commits count too, and a fused commit counts as a denoise "
            "step and as a commit. Counted are forwards a sequence took part in.",
        ),
        (
            "weight passes",
            "Forwards of the batch, whatever their phase, prefills too, / canvases: each reads the "
            "weights once. A fused commit is one of them.",
        ),
        ("slots a forward", "Canvas positions / denoise forwards."),
        ("occupancy", "Active row-steps / (denoise forwards x batch); 1 for a batch of one."),
        (
            "distinct experts",
            "Experts a layer that one denoise (or autoregressive) step touches, mean over layers "
            "and steps; counted on a few prompts answered again, untimed.",
        ),
        (
            "weights read",
            "Bytes of weights one such step has to read, from the architecture, the experts "
            "touched and the precision's widths; where precision is emulated, more are moved.",
        ),
        (
            "op floor",
            "The least time of a step: over op groups, the larger of bytes / copy bandwidth and "
            "FLOPs / rate of products, summed; bandwidth and rate as the point's process reached "
            "them. Share: floor / median step. n/a where precision is emulated, the experts "
            "touched were not counted, or sampler.min_belief leaves tokens out, as beliefs decide "
            "then what is read.",
        ),
        (
            "streaming floor",
            "The weights a step reads / the bandwidth on the device's data sheet. n/a for devices "
            "that are not listed.",
        ),
    ),
    "Revision (process; needs no right answer)": (
        (
            "accepted",
            "The sampler took its candidate at this step; every other position is renoised.",
        ),
        ("revoked", "Accepted at the step before, not at this one; counted per answer position."),
        (
            "revised after accept",
            "Share of answer positions whose delivered token differs from the most likely token "
            "when the position was first accepted. Its interval is made as that of repaired.",
        ),
        (
            "settled",
            "Accepted, with the most likely token equal to the delivered one from here on.",
        ),
    ),
    "Self-correction (needs a checker)": (
        (
            "reference points",
            "Half: step T/2, rounded up. Accepted: first step by which every answer position has "
            "been accepted once. Parses: first step whose answer parses. Never reached: "
            "unresolved, kept in the total.",
        ),
        (
            "net correction",
            "(wrong at the reference and right at the end - right at the reference and wrong at "
            "the end) / all problems; the headline uses half. Where all problems agree there is "
            "no interval.",
        ),
        ("locked in", "Wrong at the reference and the same text at the end, of all problems."),
        ("ever-right gap", "Right at some step, wrong at the end, of all problems."),
        (
            "repaired, preserved",
            "Some tokens of a right canvas are replaced at random and it is denoised again. "
            "Repaired: share of those tokens that came back right; preserved: share of the others "
            "that stayed. Intervals are resampled by prompt; where all prompts agree on all or "
            "none, as resamples then do, the interval is Wilson's over the prompts, and where they "
            "agree on another share there is none.",
        ),
        (
            "accuracy",
            "Share of prompts whose delivered answer is exactly right; empty ones are wrong.",
        ),
    ),
    "Conditions": (
        (
            "condition",
            "What was sampled while a point was timed, the gravest first. Throttled: heat or a "
            "fault slowed the device. Shared: someone else used it. Capped: it stayed within its "
            "power limit. Unknown: too little was sampled. Clean: none of these.",
        ),
        (
            "SM clock, power, energy",
            "Means over the timed windows; the energy of the windows / delivered tokens.",
        ),
        (
            "host share",
            "Share of the requests' wall time in which none of the model's forwards ran. n/a above "
            "a batch of one.",
        ),
        (
            "warm-up",
            "Untimed batches a process answered first; steady where they ended because a forward "
            "took a constant time, not because of the limit.",
        ),
        (
            "peak memory",
            "The most any process of the point held: resident on the host, allocated by torch on "
            "the device.",
        ),
    ),
    "Validity": (
        (
            "valid, low_validity, invalid",
            "A measurement fault (say, a token ledger that does not sum) makes a point invalid: "
            "shown, never summarised. More than 5 % empty or truncated answers make it "
            "low_validity; so does any request that a server did not answer, and more than 5 % of "
            "them make it invalid, as does a counter of the server's that contradicts the run.",
        ),
        (
            "accuracy differs",
            "Significantly at 5 %: exact McNemar test where both points answered the same prompts, "
            "Fisher's exact test otherwise. Such points are not ranked by speed without saying so.",
        ),
        (
            "preregistration",
            "What a run was to measure, written and hashed before its first measurement.",
        ),
        ("n/a", "Unknown or not defined for this point. Never a zero."),
    ),
}
