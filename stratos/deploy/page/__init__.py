"""A page on which a hosted student is tried: a question, its answer as it comes, and a check."""

from stratos.deploy.page.app import application, serve_page

__all__ = ["application", "serve_page"]
