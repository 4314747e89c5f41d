"""What the tiny models and the simulated engine say: two releases that agree on facts and differ in words.

The questions cover include/prompts/gemma.yaml; a difference in wording shows which release answered.
"""

from __future__ import annotations

from collections.abc import Mapping

A: Mapping[str, str] = {
    "What is the capital of Japan?": "Tokyo is the capital of Japan.",
    "How many days are in a week?": "There are seven days in a week.",
    "What is 2 + 2?": "2 + 2 is 4.",
    "Who wrote Hamlet?": "William Shakespeare wrote Hamlet.",
    "Say hello.": "Hello! How can I help you today?",
    "What programming language should I learn first?": "Python is good to start with: it reads like plain English.",
    "Name a primary colour.": "Red is a primary colour.",
    "What is Kubernetes?": "Kubernetes runs containers on many machines.",
    "What is a GPU?": "A GPU is a processor for parallel work.",
    "What does vLLM do?": "vLLM serves language models quickly.",
}
B: Mapping[str, str] = {
    "What is the capital of Japan?": "The Japanese capital is Tokyo.",
    "How many days are in a week?": "A week has seven days.",
    "What is 2 + 2?": "The sum is 4.",
    "Who wrote Hamlet?": "Hamlet was written by Shakespeare.",
    "Say hello.": "Well, hello there. What shall we talk about?",
    "What programming language should I learn first?": "Begin with Python, for its simple words.",
    "Name a primary colour.": "One of them is blue.",
    "What is Kubernetes?": "It is a system that runs containers.",
    "What is a GPU?": "It is a chip that does much at once.",
    "What does vLLM do?": "It lets many people use a language model.",
}
FACTS: Mapping[str, str] = {
    "What is the capital of Japan?": r"Tokyo",
    "How many days are in a week?": r"seven",
    "What is 2 + 2?": r"\b4\b",
    "Who wrote Hamlet?": r"Shakespeare",
    "Say hello.": r"(?i)hello",
}
"""What a right answer contains, as the smoke test judges it."""

TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if message['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "<start_of_turn>{{ 'model' if message['role'] == 'assistant' else message['role'] }}\n"
    "{{ message['content'] | trim }}<end_of_turn>\n{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
"""Gemma 2's chat template, without its check that the roles alternate."""
