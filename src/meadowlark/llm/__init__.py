"""One way to talk to any model: a request, a reply, and ``open_model(spec)`` that answers.

The same types serve teachers, judges, examined models and chat, whether they are remote, local or
recorded. Adapters hold no retry and no state: dispatch and journal stand above them.
"""
