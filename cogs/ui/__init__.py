"""Discord's components and messages: cards, first answers, edits, attachments, checks."""
