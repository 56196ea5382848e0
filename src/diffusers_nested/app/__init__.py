"""The app, ``diffusers-nested app``: photos, words and prompts in a browser. Needs the extra ``app``.

gradio is imported by ``page`` and what stands on it, not by the rest: what a form means, and how it is drawn.
"""
