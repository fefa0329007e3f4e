"""What both database engines share: connection protocols, the write queue, column conversions."""
