"""The device's own page, `leuko serve`: live sessions, review, sign-off, reports, health. One command reaches it.

Modules in this room may import the web stack (Starlette, Uvicorn, Jinja2) at their top; nobody else imports this room
but inside a function.
"""
